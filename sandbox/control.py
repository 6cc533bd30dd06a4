"""Everything that is not Clerk's API: pages to look at and to switch faults on, and the same
over JSON for tests in other processes (`/_sandbox/…`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from sandbox import pages
from sandbox.api import Answer, refused
from sandbox.errors import Refusal

if TYPE_CHECKING:
    from sandbox import Sandbox
    from sandbox.server import Handler


class Control:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def answer(self, handler: Handler) -> Answer:
        path = handler.url.path.rstrip("/") or "/"
        try:
            if path.startswith("/_sandbox/"):
                return self._json(
                    handler.command, path.removeprefix("/_sandbox/"), handler.raw_body
                )
            return self._page(handler, path)
        except Refusal as refusal:
            return refused(refusal)
        except (KeyError, TypeError, ValueError, StopIteration) as error:
            return Answer(400, json.dumps({"error": str(error)}).encode())

    # --- JSON --------------------------------------------------------------------------------

    def _json(self, method: str, path: str, raw: bytes) -> Answer:
        sandbox = self._sandbox
        body: Any = json.loads(raw) if raw else {}
        result: Any = {}
        match method, path.split("/"):
            case "GET", ["state"]:
                result = {"users": sandbox.users(), "invitations": sandbox.invitations(),
                          "mails": sandbox.mails()}  # fmt: skip
            case "POST", ["reset"]:
                sandbox.reset()
            case "POST", ["users"]:
                result = [sandbox.add_user(**entry) for entry in body]
            case "PATCH", ["users", clerk_id]:
                result = sandbox.edit(clerk_id, **body)
            case "DELETE", ["users", clerk_id]:
                sandbox.delete(clerk_id)
            case "POST", ["users", clerk_id, "sign-in"]:
                result = sandbox.sign_in(clerk_id)
            case "POST", ["invitations", invitation_id, "accept"]:
                result = sandbox.accept(invitation_id, **body)
            case "GET", ["faults"]:
                result = sandbox.faults.all()
            case "POST", ["faults"]:
                result = asdict(sandbox.fault(**body))
            case "DELETE", ["faults"]:
                sandbox.clear_faults()
            case "GET", ["requests"]:
                result = [asdict(request) for request in sandbox.requests()]
            case "DELETE", ["requests"]:
                sandbox.clear_requests()
            case "GET", ["webhooks"]:
                result = [asdict(event) for event in list(sandbox.webhooks.events)]
            case "POST", ["webhooks"]:
                sandbox.webhooks.send_to(body["url"], body.get("secret"))
            case "POST", ["webhooks", "mode"]:
                sandbox.webhooks.switch(body["mode"])
            case "POST", ["webhooks", "release"]:
                result = {"deliveries": sandbox.webhooks.release(**body)}
            case "POST", ["webhooks", event_id, "send"]:
                sandbox.webhooks.resend(event_id)
            case "POST", ["latency"]:
                sandbox.latency = float(body["seconds"])
            case _:
                return Answer(404, b"{}")
        return Answer(200, json.dumps(result).encode())

    # --- Pages -------------------------------------------------------------------------------

    def _page(self, handler: Handler, path: str) -> Answer:
        sandbox = self._sandbox
        if handler.command == "POST":
            form = {key: values[0] for key, values in parse_qs(handler.raw_body.decode()).items()}
            return self._posted(path, form)
        query = {key: values[0] for key, values in parse_qs(handler.url.query).items()}
        match path.split("/")[1:]:
            case [""]:
                return _html(pages.users(sandbox.users(), query.get("q", "")))
            case ["users", clerk_id] if user := sandbox.user(clerk_id):
                return _html(pages.user(user))
            case ["faults"]:
                return _html(pages.faults(sandbox.faults.all()))
            case ["webhooks"]:
                return _html(pages.webhooks(sandbox.webhooks))
            case ["inbox"]:
                return _html(pages.inbox(sandbox.mails(), sandbox.invitations()))
            case ["requests"]:
                return _html(pages.requests(sandbox.requests()[-200:]))
            case ["style.css"]:
                return Answer(200, pages.STYLE.encode(), content_type="text/css")
            case _:
                return Answer(
                    404, pages.missing().encode(), content_type="text/html; charset=utf-8"
                )

    def _posted(self, path: str, form: dict[str, str]) -> Answer:
        sandbox = self._sandbox
        match path.split("/")[1:]:
            case ["users", clerk_id, "edit"]:
                changes: dict[str, Any] = {
                    name: form.get(name, "") for name in ("first_name", "last_name")
                }
                if form.get("email"):
                    changes["email"] = form["email"].strip().lower()
                sandbox.edit(clerk_id, **changes)
                return _see(f"/users/{clerk_id}")
            case ["users", clerk_id, "flag"]:
                user = sandbox.user(clerk_id) or {}
                flag = form["flag"]
                if flag not in ("banned", "locked", "two_factor_enabled"):
                    raise ValueError("no such flag")
                sandbox.edit(clerk_id, **{flag: not user[flag]})
                return _see(f"/users/{clerk_id}")
            case ["users", clerk_id, "sign-in"]:
                sandbox.sign_in(clerk_id)
                return _see(f"/users/{clerk_id}")
            case ["users", clerk_id, "delete"]:
                sandbox.delete(clerk_id)
                return _see("/")
            case ["webhooks", "mode"]:
                sandbox.webhooks.switch(form["mode"])
                return _see("/webhooks")
            case ["webhooks", "release"]:
                sandbox.webhooks.release(order=form["order"], twice="twice" in form)
                return _see("/webhooks")
            case ["webhooks", event_id, "send"]:
                sandbox.webhooks.resend(event_id)
                return _see("/webhooks")
            case ["inbox", invitation_id, "accept"]:
                names = {name: form[name] for name in ("first_name", "last_name") if form.get(name)}
                user = sandbox.accept(invitation_id, **names)
                return _see(f"/users/{user['id']}")
            case ["faults"]:
                sandbox.fault(
                    form["route"],
                    form["kind"],
                    status=int(form.get("status") or 500),
                    seconds=float(form.get("seconds") or 1),
                    times=int(form["times"]) if form.get("times") else None,
                    apply="apply" in form,
                )
                return _see("/faults")
            case ["faults", "clear"]:
                sandbox.clear_faults()
                return _see("/faults")
            case ["faults", fault_id, "remove"]:
                sandbox.faults.remove(int(fault_id))
                return _see("/faults")
        return Answer(404, b"{}")


def _html(text: str) -> Answer:
    return Answer(200, text.encode(), content_type="text/html; charset=utf-8")


def _see(path: str) -> Answer:
    return Answer(303, b"", {"Location": path})
