/* While a run is at work, its page shows how far it is without being reloaded. */
"use strict";
{
  const SECONDS = 2;
  const told = document.getElementById("run-told");
  const stateOf = (progress) => progress.querySelector("#run-state").textContent;

  const latest = async () => {
    const answer = await fetch(location.href, { headers: { "X-Requested-With": "fetch" } });
    if (!answer.ok || answer.redirected) return null; // signed out, for example
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return page.getElementById("progress");
  };

  /* The focus stays at the same button or link. If that is gone, the news has it, and is read out. */
  const focusIn = (fresh, before) => {
    const same = [...fresh.querySelectorAll("button, a")].find(
      (one) => (before.value && one.value === before.value) || (before.href && one.href === before.href),
    );
    (same || fresh.querySelector("#news")).focus({ preventScroll: Boolean(same) });
  };

  const show = (shown, fresh) => {
    const before = shown.contains(document.activeElement) ? document.activeElement : null;
    const moved = stateOf(fresh) !== stateOf(shown);
    fresh.querySelector("[autofocus]")?.removeAttribute("autofocus");
    shown.replaceWith(fresh);
    if (before) focusIn(fresh, before);
    const news = fresh.querySelector("#news");
    if (moved && document.activeElement !== news) told.textContent = news.textContent;
  };

  const look = async () => {
    const shown = document.getElementById("progress");
    if (!shown || !shown.dataset.going) return;
    const fresh = await latest().catch(() => null);
    document.getElementById("stale").hidden = Boolean(fresh);
    const pressed = shown.querySelector("button:disabled"); // a step is on its way
    if (fresh && !pressed) show(shown, fresh);
    setTimeout(look, SECONDS * 1000);
  };
  setTimeout(look, SECONDS * 1000);
}
