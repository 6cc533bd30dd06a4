/* The form of a user: Ctrl+S saves, leaving it asks first, and the page says what a save will do. */
"use strict";
{
  const words = document.currentScript.dataset;
  const form = document.getElementById("builderuser_form");
  const fields = [...form.elements].filter((field) => field.name && field.type !== "hidden" && field.type !== "submit");
  const valueOf = (field) => (field.type === "radio" || field.type === "checkbox" ? field.checked : field.value);
  const opened = new Map(fields.map((field) => [field, valueOf(field)]));
  const refused = document.getElementById("message") !== null;
  const unsaved = () => refused || fields.some((field) => valueOf(field) !== opened.get(field));
  let sent = false;

  /* Unsaved typing is guarded. */
  window.addEventListener("beforeunload", (event) => {
    if (!sent && unsaved()) event.preventDefault();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) sent = false;
  });

  /* Ctrl+S, or ⌘S, saves and stays. */
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.key.toLowerCase() !== "s") return;
    const button = form.querySelector("[name=_continue]") || form.querySelector("[name=_save]");
    if (!button) return;
    event.preventDefault();
    if (!button.disabled) form.requestSubmit(button);
  });

  /* Before a save: what it does to the sign-in. */
  const notice = document.getElementById("before-save");
  const name = form.elements.namedItem("name");
  const tell = () => {
    const renames = form.dataset.busy && name && name.value !== opened.get(name);
    notice.textContent = renames ? words.renames : "";
  };
  form.addEventListener("input", tell);
  form.addEventListener("change", tell);

  form.addEventListener("submit", () => (sent = true));
}
