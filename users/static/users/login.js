/* Somebody was signed out while they saved: the form that they go back to fills in what they typed. */
"use strict";
for (const key of Object.keys(sessionStorage)) {
  if (!key.startsWith("cascade:")) continue;
  const kept = JSON.parse(sessionStorage.getItem(key));
  sessionStorage.setItem(key, JSON.stringify({ ...kept, interrupted: true }));
}
