/* Select2 draws a field of its own and gives it no name; a screen reader needs one. */
"use strict";
{
  const name = () => {
    for (const drawn of document.querySelectorAll(".select2-selection__rendered:not([aria-label])")) {
      const field = document.getElementById(drawn.id.slice("select2-".length, -"-container".length));
      const label = field && field.labels[0];
      if (label) drawn.setAttribute("aria-label", label.textContent.trim());
    }
  };
  new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  name();
}
