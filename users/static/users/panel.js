/* "Refresh" asks in the background: what is typed on the page stays, and the panel is exchanged. */
"use strict";
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("#panel-refresh");
  if (!form) return;
  event.preventDefault();
  const status = document.getElementById("panel-status");
  const button = form.querySelector("button");
  button.disabled = true;
  status.textContent = "Asking Clerk …";
  try {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { "X-Requested-With": "fetch" },
    });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["sign-in", "clerk-panel"]) {
      document.getElementById(id).replaceWith(page.getElementById(id));
    }
    document.querySelector("#panel-refresh button").focus();
  } catch {
    status.textContent = "The panel could not be refreshed. Reload the page and try again.";
    button.disabled = false;
  }
});
