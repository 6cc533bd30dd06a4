/* A click, or Enter, puts one of the two values into its field; saving stays a step of its own. */
"use strict";
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.choice");
  if (!button) return;
  const field = document.getElementById(`id_${button.dataset.field}`);
  if (!field) return;
  const { value, text } = button.dataset;
  if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) {
    field.add(new Option(text, value));
  }
  field.value = value;
  field.dispatchEvent(new Event("change", { bubbles: true }));
  document.getElementById("conflict-status").textContent = `${button.textContent}: ${text}`;
});
