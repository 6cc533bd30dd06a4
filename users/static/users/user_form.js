/* The form of a user: Ctrl+S saves, what is typed is not lost, and the page says what a save will do. */
"use strict";
{
  const words = document.currentScript.dataset;
  const form = document.getElementById("builderuser_form");
  const key = `cascade:${location.pathname}`;
  const fields = [...form.elements].filter((field) => field.name && field.type !== "hidden" && field.type !== "submit");
  const valueOf = (field) => (field.type === "radio" || field.type === "checkbox" ? field.checked : field.value);
  const opened = new Map(fields.map((field) => [field, valueOf(field)]));
  const refused = document.getElementById("message") !== null;
  const unsaved = () => refused || fields.some((field) => valueOf(field) !== opened.get(field));
  const version = form.elements.namedItem("version");
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

  /* An expired session: the login page marks what was typed, and it is filled in again after it.
     The edit token goes with it, so that what others saved meanwhile is a conflict. Another person
     who signs in at the same window does not get it. */
  form.addEventListener("submit", () => {
    sent = true;
    if (!unsaved()) return;
    const filled = fields.filter((field) => field.type !== "radio" || field.checked);
    const typed = filled.map((field) => {
      const option = field.selectedOptions && field.selectedOptions[0];
      return { name: field.name, value: field.value, text: option && option.text };
    });
    const { author } = form.dataset;
    const kept = { typed, author, version: version && version.value, interrupted: false };
    sessionStorage.setItem(key, JSON.stringify(kept));
  });

  const fill = ({ name: fieldName, value, text }) => {
    const field = form.elements.namedItem(fieldName);
    if (!field || field.readOnly || field.disabled) return;
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) {
      field.add(new Option(text, value));
    }
    field.value = value;
    const changed = field instanceof RadioNodeList ? field[0] : field;
    changed.dispatchEvent(new Event("change", { bubbles: true }));
  };

  const kept = JSON.parse(sessionStorage.getItem(key) || "null");
  sessionStorage.removeItem(key);
  if (kept && kept.interrupted && kept.author === form.dataset.author) {
    kept.typed.forEach(fill);
    if (version) version.value = kept.version;
    const told = document.createElement("p");
    told.className = "note";
    told.setAttribute("role", "status");
    told.textContent = words.filled;
    form.before(told);
  }
}
