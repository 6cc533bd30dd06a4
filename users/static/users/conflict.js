/* A click, or the key 1 or 2, puts one of the two values into its field; saving stays a step of its own. */
"use strict";
{
  const choices = [...document.querySelectorAll("button.choice")];
  const fieldOf = (button) => document.getElementById(`id_${button.dataset.field}`);
  const mark = () => {
    for (const button of choices) {
      const field = fieldOf(button);
      button.setAttribute("aria-pressed", String(Boolean(field) && field.value === button.dataset.value));
    }
  };

  const choose = (button) => {
    const field = fieldOf(button);
    if (!field) return;
    const { value, text } = button.dataset;
    if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) {
      field.add(new Option(text, value));
    }
    field.value = value;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    document.getElementById("conflict-status").textContent = `${button.textContent}: ${text}`;
  };

  for (const button of choices) button.addEventListener("click", () => choose(button));
  for (const name of ["input", "change"]) document.addEventListener(name, mark);
  document.querySelector(".conflict").addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    const button = row && row.querySelector(`button.choice[data-key="${CSS.escape(event.key)}"]`);
    if (!button || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    button.focus();
    choose(button);
  });
  mark();
}
