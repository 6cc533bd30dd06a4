/* An expired session loses nothing that was typed into a form. Each form that is sent is kept in the
   tab until a page answers; if that is the login (login.js), the form is filled in after the sign-in.

   Passwords, codes and files are not kept. Another person who signs in at the same window gets
   nothing. The edit token of a form goes with its values, so that what others saved meanwhile is a
   conflict. */
"use strict";
{
  const PREFIX = "cascade:";
  const words = document.currentScript.dataset;
  const { author } = words;
  const here = location.pathname + location.search;
  const SECRET = ["password", "file"];
  const NOT_TYPED = [...SECRET, "hidden", "submit", "button"];
  const forms = [...document.querySelectorAll("#content form")].filter((form) => form.method === "post");
  const opened = new Map();

  /* Django draws a choice of many as two lists: the left one holds what is not chosen. */
  const isTyped = (field) =>
    field.name && !NOT_TYPED.includes(field.type) && field.autocomplete !== "one-time-code" &&
    !(field.classList.contains("filtered") && field.name.endsWith("_old"));
  const fieldsOf = (form) => [...form.elements].filter(isTyped);
  const isMark = (field) => field.type === "checkbox" || field.type === "radio";
  const chosenOf = (field) => [...field.selectedOptions].map(({ value, text }) => ({ value, text }));

  /* The values by name: none for a mark that is not set. */
  const typedInto = (form) => {
    const typed = {};
    for (const field of fieldsOf(form)) {
      const values = (typed[field.name] ||= []);
      if (field.tagName === "SELECT") values.push(...chosenOf(field));
      else if (!isMark(field) || field.checked) values.push({ value: field.value });
    }
    return typed;
  };
  const compared = (values) => JSON.stringify((values || []).map(({ value }) => value).sort());

  /* The people that a page is about, if they were selected in the list. */
  const peopleOf = (form) => [...form.querySelectorAll("input[type=hidden][name=user]")].map(({ value }) => value);
  const tokenOf = (form) => form.elements.namedItem("version");
  /* Not `form.action`: a field may have that name. */
  const pathOf = (form) => new URL(form.getAttribute("action") || "", location.href).pathname;
  const keep = (kept) => sessionStorage.setItem(PREFIX + kept.path, JSON.stringify(kept));

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || !forms.includes(form)) return;
    const secret = [...form.elements].some((field) => SECRET.includes(field.type));
    let typed = Object.entries(typedInto(form));
    // A page that refused a change shows values that are not stored.
    if (!document.getElementById("message")) {
      const before = opened.get(form);
      typed = typed.filter(([name, values]) => compared(values) !== compared(before[name]));
    }
    if (!typed.length && !secret) return;
    keep({
      author, secret, typed: Object.fromEntries(typed), people: peopleOf(form), version: tokenOf(form)?.value,
      page: here, path: pathOf(form), place: forms.indexOf(form), asked: false, interrupted: false,
    });
  });

  const add = (field, { value, text }) => {
    if (![...field.options].some((option) => option.value === value)) field.add(new Option(text, value));
  };

  const fill = (form, typed) => {
    const next = {};
    for (const field of fieldsOf(form)) {
      const values = typed[field.name];
      if (!values || field.disabled || field.readOnly) continue;
      if (field.tagName === "SELECT") {
        values.forEach((one) => add(field, one));
        for (const option of field.options) option.selected = values.some(({ value }) => value === option.value);
      } else if (isMark(field)) {
        field.checked = values.some(({ value }) => value === field.value);
      } else {
        const place = (next[field.name] = (next[field.name] ?? -1) + 1);
        if (values[place]) field.value = values[place].value;
      }
      field.dispatchEvent(new Event("change", { bubbles: true }));
    }
  };

  const tell = (form, { typed, secret }) => {
    const told = document.createElement("p");
    told.className = "note";
    told.setAttribute("role", "status");
    told.textContent = [
      words.signedOut,
      Object.keys(typed).length ? words.filled : "",
      secret ? words.notKept : "",
    ].filter(Boolean).join(" ");
    form.before(told);
  };

  /* The address of a page names no selected people: ask once for the page about them, as the list does. */
  const openFor = (kept) => {
    keep({ ...kept, asked: true });
    const form = Object.assign(document.createElement("form"), { method: "post", action: kept.path });
    const csrf = document.querySelector("#content [name=csrfmiddlewaretoken]").value;
    for (const [name, value] of [["csrfmiddlewaretoken", csrf], ...kept.people.map((one) => ["user", one])]) {
      form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
    }
    document.body.append(form);
    form.submit();
  };

  const restore = (kept) => {
    const form = forms[kept.place];
    const about = forms.some((one) => peopleOf(one).length) ? "selected" : "all";
    if (kept.people.length && about === "all") {
      if (kept.page === here && !kept.asked) openFor(kept);
      return;
    }
    // With another filter, a list or a page about all that it shows is another one.
    const same = kept.page === here || kept.people.length || form?.id.endsWith("_form");
    if (!form || !same || (about === "selected" && !kept.people.length)) return;
    sessionStorage.removeItem(PREFIX + kept.path);
    fill(form, kept.typed);
    const token = tokenOf(form);
    if (token && kept.version) token.value = kept.version;
    tell(form, kept);
  };

  /* After the scripts that note what the page was opened with, before those that draw its fields. */
  document.addEventListener("DOMContentLoaded", () => {
    for (const form of forms) opened.set(form, typedInto(form));
    for (const name of Object.keys(sessionStorage).filter((one) => one.startsWith(PREFIX))) {
      const kept = JSON.parse(sessionStorage.getItem(name));
      // A page has answered the form, or somebody else has signed in.
      if (!kept.interrupted || kept.author !== author) sessionStorage.removeItem(name);
      else if (kept.page === here || kept.path === location.pathname) restore(kept);
    }
  });
}
