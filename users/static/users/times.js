/* Show times in the viewer's zone, and name it. Without script they are in UTC. */
"use strict";
{
  const two = (number) => String(number).padStart(2, "0");
  const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" });
  const zoneOf = (moment) => zone.formatToParts(moment).find((part) => part.type === "timeZoneName").value;
  const show = () => {
    for (const time of document.querySelectorAll("time[datetime]:not([data-local])")) {
      const moment = new Date(time.dateTime);
      const seconds = "seconds" in time.dataset ? `:${two(moment.getSeconds())}` : "";
      time.dataset.local = "";
      time.title = time.textContent;
      time.textContent =
        `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ` +
        `${two(moment.getHours())}:${two(moment.getMinutes())}${seconds} ${zoneOf(moment)}`;
    }
  };
  new MutationObserver(show).observe(document.body, { childList: true, subtree: true });
  show();
}
