/* Somebody was signed out while they sent a form: its page fills in what they typed (typing.js). */
"use strict";
for (const key of Object.keys(sessionStorage)) {
  if (!key.startsWith("cascade:")) continue;
  const kept = JSON.parse(sessionStorage.getItem(key));
  sessionStorage.setItem(key, JSON.stringify({ ...kept, interrupted: true }));
}
