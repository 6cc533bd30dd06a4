/* A form that changes something is sent once: a second click does nothing, and the button says so.
   What takes longer is said beside the button. */
"use strict";
{
  const SLOW_AFTER = 2000;
  const words = document.currentScript.dataset;
  const sent = new WeakMap();
  const text = (button) => (button.tagName === "INPUT" ? "value" : "textContent");

  const status = document.createElement("p");
  status.className = "visually-hidden";
  status.setAttribute("role", "status");
  document.body.append(status);
  const say = (text) => {
    status.textContent = text;
  };

  /* An empty status, which a screen reader knows by the time it is filled. */
  const slowBeside = (clicked, form) => {
    const slow = document.createElement("p");
    slow.className = "slow";
    slow.setAttribute("role", "status");
    if (clicked) (clicked.closest(".submit-row") || clicked).after(slow);
    else form.append(slow);
    return slow;
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || !form.querySelector("input[name=token]")) return;
    if (sent.has(form)) {
      event.preventDefault();
      return;
    }
    const clicked = event.submitter;
    const buttons = [...form.elements].filter((element) => element.type === "submit");
    const slow = slowBeside(clicked, form);
    const timer = setTimeout(() => {
      slow.textContent = form.dataset.slow || words.slow;
    }, SLOW_AFTER);
    sent.set(form, { clicked, words: clicked && clicked[text(clicked)], buttons, slow, timer });
    // Only after the browser has read the form: the name of the clicked button belongs to it.
    setTimeout(() => {
      const busy = (clicked && clicked.dataset.busy) || form.dataset.busy || words.busy;
      if (clicked) clicked[text(clicked)] = busy;
      say(busy);
      for (const button of buttons) button.disabled = true;
    });
  });

  /* A page that the browser took out of its history can be sent again. */
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.forms) {
      const before = sent.get(form);
      if (!before) continue;
      sent.delete(form);
      clearTimeout(before.timer);
      before.slow.remove();
      if (before.clicked) before.clicked[text(before.clicked)] = before.words;
      for (const button of before.buttons) button.disabled = false;
    }
  });
}
