/* "Refresh" asks in the background: what is typed on the page stays, and the panel is exchanged. */
"use strict";
{
  const words = document.currentScript.dataset;

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("#panel-refresh");
    if (!form) return;
    event.preventDefault();
    const status = document.getElementById("panel-status");
    const button = form.querySelector("button");
    button.disabled = true;
    status.textContent = words.asking;
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
      status.textContent = words.failed;
      button.disabled = false;
    }
  });
}
