"""A page whose timers go only when the test says so, and that can be looked at while it is sent.

Chromium lets nobody look at a page whose navigation is under way. A second page of the same site
can still talk to it.
"""

from __future__ import annotations

from typing import Any

STOPPED = """
{
  let now = 0, last = 0;
  const timers = new Map();
  window.setTimeout = (call, wait = 0, ...rest) => {
    timers.set(++last, { at: now + wait, call: () => call(...rest) });
    return last;
  };
  window.clearTimeout = (number) => timers.delete(number);
  const passOn = (milliseconds) => {
    now += milliseconds;
    const due = [...timers].filter(([, one]) => one.at <= now).sort((a, b) => a[1].at - b[1].at);
    for (const [number, { call }] of due) {
      timers.delete(number);
      call();
    }
  };
  const all = (selector) => [...document.querySelectorAll(selector)];
  const look = () => ({
    buttons: Object.fromEntries(all("#content form [type=submit]")
      .filter((one) => one.form.querySelector("[name=token]"))
      .map((one) => [one.value || one.textContent, !one.disabled])),
    told: all("[role=status]:not(#panel-status)").map((one) => one.textContent).filter(Boolean),
    seen: all(".slow").filter((one) => one.offsetHeight).map((one) => one.textContent),
    name: document.getElementById("id_name")?.value,
  });
  const channel = new BroadcastChannel("clock");
  channel.addEventListener("message", ({ data }) => {
    if (data.answer) return;
    if (data.again) document.querySelector(data.again).requestSubmit();
    passOn(data.milliseconds);
    channel.postMessage({ answer: look() });
  });
}
"""
ASK = """(asked) => new Promise((resolve) => {
  const channel = new BroadcastChannel("clock");
  channel.addEventListener("message", ({ data }) => {
    channel.close();
    resolve(data.answer);
  });
  channel.postMessage(asked);
})"""


class StoppedClock:
    """The clock of a page, and the page as it is at that time."""

    def __init__(self, page: Any) -> None:
        page.add_init_script(STOPPED)
        self._beside = page.context.new_page()
        self._beside.goto("/healthz/")

    def pass_on(self, milliseconds: int, *, again: str = "") -> dict[str, Any]:
        """Let time pass in the page, and look at it; with `again`, send that form once more first.

        Return the buttons with whether they can be pressed, what a screen reader is told, what is
        said to be slow, and the name that is typed.
        """
        asked = {"milliseconds": milliseconds, "again": again}
        answer: dict[str, Any] = self._beside.evaluate(ASK, asked)
        return answer
