/* While a run is at work, its page shows how far it is without being reloaded. */
"use strict";
{
  const SECONDS = 2;
  const look = async () => {
    const shown = document.getElementById("progress");
    if (!shown || !shown.dataset.going) return;
    if (!shown.contains(document.activeElement)) {
      try {
        const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
        if (answer.ok && !answer.redirected) {
          const page = new DOMParser().parseFromString(await answer.text(), "text/html");
          const fresh = page.getElementById("progress");
          if (fresh && !shown.contains(document.activeElement)) shown.replaceWith(fresh);
        }
      } catch {
        /* The server did not answer: the next look may succeed. */
      }
    }
    setTimeout(look, SECONDS * 1000);
  };
  setTimeout(look, SECONDS * 1000);
}
