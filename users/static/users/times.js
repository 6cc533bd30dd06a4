/* Show times in the viewer's zone, and name it. Without script they are in UTC.

   Sentences and tooltips have times in one format (`users.sync.display.time_text`). They are found
   by it, also in sentences that were stored and in those that a script writes later. The server
   hears of the zone by a cookie: filters and charts need to know when a day begins. */
"use strict";
{
  const two = (number) => String(number).padStart(2, "0");
  const zone = new Intl.DateTimeFormat("en", { timeZoneName: "short" });
  const zoneOf = (moment) => zone.formatToParts(moment).find((part) => part.type === "timeZoneName").value;
  const IN_TEXT = /\b\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? UTC\b/g;
  const LEFT_ALONE = "script, style, textarea, time, [contenteditable]";

  const local = (moment, seconds) =>
    `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())} ` +
    `${two(moment.getHours())}:${two(moment.getMinutes())}` +
    `${seconds ? `:${two(moment.getSeconds())}` : ""} ${zoneOf(moment)}`;
  const momentOf = (text) => new Date(text.replace(" UTC", "Z").replace(" ", "T"));
  const localized = (text) =>
    text.replace(IN_TEXT, (found) => local(momentOf(found), found.split(":").length > 2));

  const showTime = (time) => {
    const text = local(new Date(time.dateTime), "seconds" in time.dataset);
    const day = "day" in time.dataset;
    time.dataset.local = "";
    time.title = day ? text : time.textContent;
    time.textContent = day ? text.slice(0, 10) : text;
  };

  const showSentence = (node) => {
    if (node.data.includes(" UTC") && !node.parentElement?.closest(LEFT_ALONE)) {
      const text = localized(node.data);
      if (text !== node.data) node.data = text;
    }
  };

  const within = (root, selector) => [
    ...(root.matches(selector) ? [root] : []),
    ...root.querySelectorAll(selector),
  ];

  const show = (root) => {
    if (root.nodeType === Node.TEXT_NODE) return showSentence(root);
    if (root.nodeType !== Node.ELEMENT_NODE) return;
    within(root, "time[datetime]:not([data-local])").forEach(showTime);
    for (const one of within(root, "[title*=' UTC']:not(time)")) one.title = localized(one.title);
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) showSentence(texts.currentNode);
  };

  const zoneName = new Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.cookie = `zone=${zoneName}; path=/admin/; max-age=31536000; samesite=lax`;
  new MutationObserver((changes) => {
    for (const change of changes) change.addedNodes.forEach((node) => node.isConnected && show(node));
  }).observe(document.body, { childList: true, subtree: true });
  show(document.body);
}
