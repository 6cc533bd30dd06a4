/* On a phone the filters stand above the list, closed; a press opens one. */
"use strict";
if (matchMedia("(max-width: 767px)").matches) {
  for (const filter of document.querySelectorAll("details[data-filter-title]")) filter.open = false;
}
