/* While a run is at work, its page shows how far it is without being reloaded. */
"use strict";
{
  const SECONDS = 2;

  const latest = async () => {
    const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
    if (!answer.ok || answer.redirected) return null; // signed out, for example
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return page.getElementById("progress");
  };

  /* A button that has the focus keeps it, as long as it is of use. */
  const show = (shown, fresh) => {
    const words = shown.querySelector("#words");
    const focused = document.activeElement;
    if (shown.contains(focused) && !words.contains(focused) && fresh.dataset.going) {
      words.replaceWith(fresh.querySelector("#words"));
      return;
    }
    const moves = shown.contains(focused);
    shown.replaceWith(fresh);
    if (!moves) return;
    const status = fresh.querySelector("[role=status]");
    status.tabIndex = -1;
    status.focus();
  };

  const look = async () => {
    const shown = document.getElementById("progress");
    if (!shown || !shown.dataset.going) return;
    const fresh = await latest().catch(() => null);
    document.getElementById("stale").hidden = Boolean(fresh);
    if (fresh) show(shown, fresh);
    setTimeout(look, SECONDS * 1000);
  };
  setTimeout(look, SECONDS * 1000);
}
