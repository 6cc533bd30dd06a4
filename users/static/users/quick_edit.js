/* Edit a name or a group in its cell. The cell shows the new value at once, and goes back with the
   reason if that is not known to be saved; what was typed is offered again. Without script, the
   name leads to the form. */
"use strict";
{
  const csrf = document.querySelector("#changelist-form [name=csrfmiddlewaretoken]");
  const filter = document.getElementById("group-filter");
  const words = document.currentScript.dataset;

  const element = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
  const button = (text, label) => {
    const made = element("button", { type: "button", className: "quick-button", textContent: text });
    if (label) made.setAttribute("aria-label", label);
    return made;
  };

  /* A field that finds a group as a person types, as the filter beside the list does. */
  const groupField = (value, text) => {
    const select = element("select");
    for (const { name, value: held } of filter.attributes) {
      if (name === "class" || name.startsWith("data-")) select.setAttribute(name, held);
    }
    select.classList.remove("select2-hidden-accessible");
    select.removeAttribute("data-select2-id");
    select.add(new Option("", ""));
    if (value) select.add(new Option(text, value, true, true));
    return select;
  };

  class Cell {
    constructor(data, cell, field, { edit, label }, shown, cells) {
      Object.assign(this, { data, cell, field, label, shown, cells, typed: null });
      this.opener = button("✎", edit.replace("{person}", () => this.person));
      this.opener.addEventListener("click", () => this.open());
      this.note = element("span", { className: "quick-note" });
      this.note.setAttribute("role", "status");
      cell.append(" ", this.opener, this.note);
    }

    get person() {
      return this.data.closest("tr").querySelector(".field-shown_name a").textContent;
    }

    open() {
      this.note.replaceChildren();
      this.note.className = "quick-note";
      const isGroup = this.field === "builder_group";
      const stored = { text: this.shown.textContent };
      stored.value = isGroup ? this.data.dataset.group : stored.text;
      const { value: offered, text: offeredText } = this.typed || stored;
      const input = isGroup
        ? groupField(offered, offeredText)
        : element("input", { type: "text", value: offered, maxLength: 200 });
      input.setAttribute("aria-label", this.label);
      const editor = element("span", { className: "quick-editor" });
      const save = button(words.save);
      const cancel = button(words.cancel);
      editor.append(input, save, cancel);
      this.shown.hidden = this.opener.hidden = true;
      this.cell.prepend(editor);
      if (isGroup) window.django.jQuery(input).djangoAdminSelect2();
      const close = () => {
        if (isGroup) window.django.jQuery(input).select2("destroy");
        editor.remove();
        this.shown.hidden = this.opener.hidden = false;
        this.opener.focus();
      };
      const giveUp = () => {
        this.typed = null;
        close();
      };
      const done = () => {
        if (save.disabled) return; // the other cell of the row is being saved
        const option = isGroup && input.selectedOptions[0];
        const text = isGroup ? (option && option.textContent) || "—" : input.value;
        const { value } = input;
        this.typed = null;
        close();
        if (value !== stored.value) this.save({ value, text }, stored.text);
      };
      save.addEventListener("click", done);
      cancel.addEventListener("click", giveUp);
      editor.addEventListener("keydown", (event) => {
        if (event.key === "Escape") giveUp();
        if (event.key !== "Enter" || event.target !== input) return;
        event.preventDefault();
        done();
      });
      input.focus();
    }

    async save(typed, before) {
      const { dataset } = this.data;
      const row = this.data.closest("tr");
      const openers = [...row.querySelectorAll(".quick-button")];
      const asks = dataset.linked && this.field === "name";
      this.shown.textContent = typed.text;
      this.note.textContent = asks ? words.asking : words.saving;
      for (const one of openers) one.disabled = true;
      let refused = null;
      try {
        const body = new URLSearchParams({
          csrfmiddlewaretoken: csrf.value, field: this.field, value: typed.value,
          version: dataset.version, token: dataset.token,
        });
        const answer = await fetch(`${dataset.user}/quick/`, { method: "POST", body });
        const type = answer.headers.get("Content-Type") || "";
        if (answer.redirected) {
          refused = { message: words.signedOut };
        } else if (type.startsWith("application/json")) {
          const told = await answer.json();
          dataset.token = told.token; // the same value again is another change
          if (answer.ok) this.saved(told);
          else refused = told;
        } else if (answer.status >= 400 && answer.status < 500) {
          refused = { message: words.notSaved };
        } else {
          refused = { message: words.notKnown };
        }
      } catch {
        refused = { message: words.notKnown };
      }
      for (const one of openers) one.disabled = false;
      if (document.activeElement === document.body) this.opener.focus(); // a locked button lost it
      if (refused) this.goBack(before, refused, typed);
    }

    saved(now) {
      const { dataset } = this.data;
      // The version covers the whole row. A value that it covers must be seen.
      for (const cell of this.cells) {
        cell.shown.textContent = cell.field === "name" ? now.name : now.group;
      }
      dataset.version = now.version;
      dataset.group = now.group_id;
      this.note.textContent = words.saved;
      this.note.classList.add("good");
    }

    goBack(before, refused, typed) {
      this.typed = typed;
      this.shown.textContent = before;
      this.note.classList.add("bad");
      this.note.setAttribute("role", "alert");
      this.note.replaceChildren(refused.message, " ");
      if (refused.form) this.note.append(element("a", { href: refused.form, textContent: words.openForm }));
    }
  }

  for (const data of document.querySelectorAll("#result_list .quick")) {
    const row = data.closest("tr");
    const name = row.querySelector(".field-shown_name");
    const cells = [];
    const ofName = { edit: words.editName, label: words.newName };
    cells.push(new Cell(data, name, "name", ofName, name.querySelector("a"), cells));
    if (filter) {
      const group = data.previousElementSibling;
      const ofGroup = { edit: words.editGroup, label: words.newGroup };
      cells.push(new Cell(data, data.parentElement, "builder_group", ofGroup, group, cells));
    }
  }
}
