"""Control the sandbox over JSON, for tests in other processes: `/_sandbox/…`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sandbox.api import Answer

if TYPE_CHECKING:
    from sandbox import Sandbox

PREFIX = "/_sandbox/"


class Control:
    """Translate requests under `PREFIX` to calls of the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def answer(self, method: str, path: str, raw: bytes) -> Answer:
        """Do what a control request asks, and return the result as JSON.

        An unknown request gets 404. Raises `Refusal` if Clerk would refuse the change. Raises
        `KeyError`, `TypeError` or `ValueError` if the body is not valid.
        """
        body: Any = json.loads(raw) if raw else {}
        steps = path.removeprefix(PREFIX).split("/")
        for part in (self._people, self._webhooks, self._faults):
            result = part(method, steps, body)
            if result is not None:
                return Answer(200, json.dumps(result).encode())
        return Answer(404, b"{}")

    def _people(self, method: str, steps: list[str], body: Any) -> Any:
        sandbox = self._sandbox
        match method, steps:
            case "GET", ["state"]:
                return {"users": sandbox.users(), "invitations": sandbox.invitations(),
                        "mails": sandbox.mails()}  # fmt: skip
            case "POST", ["reset"]:
                sandbox.reset()
                return {}
            case "POST", ["users"]:
                # The people have always existed, so there are no events.
                ids = sandbox.fill(len(body), body.__getitem__)
                return [sandbox.user(clerk_id) for clerk_id in ids]
            case "PATCH", ["users", clerk_id]:
                return sandbox.edit(clerk_id, **body)
            case "DELETE", ["users", clerk_id]:
                sandbox.delete(clerk_id)
                return {}
            case "POST", ["users", clerk_id, "sign-in"]:
                return sandbox.sign_in(clerk_id, **body)
            case "POST", ["users", clerk_id, "token"]:
                return {"jwt": sandbox.session_token(clerk_id, **body)}
            case "GET", ["jwt-key"]:
                return {"pem": sandbox.session_key.public_pem}
            case "POST", ["users", clerk_id, "google"]:
                return sandbox.link_google(clerk_id)
            case "DELETE", ["users", clerk_id, "google"]:
                return sandbox.unlink_google(clerk_id)
            case "POST", ["invitations", invitation_id, "accept"]:
                return sandbox.accept(invitation_id, **body)
        return None

    def _webhooks(self, method: str, steps: list[str], body: Any) -> Any:
        webhooks = self._sandbox.webhooks
        match method, steps:
            case "GET", ["webhooks"]:
                return {"url": webhooks.url, "mode": webhooks.mode,
                        "deliveries": webhooks.deliveries()}  # fmt: skip
            case "GET", ["webhooks", "events"]:
                return [asdict(event) for event in webhooks.events]
            case "POST", ["webhooks", "send-to"]:
                webhooks.send_to(body["url"], body.get("secret"))
                return {}
            case "POST", ["webhooks", "mode"]:
                webhooks.mode = body["mode"]
                return {}
            case "POST", ["webhooks", "release"]:
                return [event.id for event in webhooks.release(**body)]
            case "POST", ["webhooks", "wait"]:
                return {"idle": webhooks.wait_idle(float(body.get("timeout", 10)))}
            case "POST", ["webhooks", event_id, "resend"]:
                webhooks.resend(event_id)
                return {}
        return None

    def _faults(self, method: str, steps: list[str], body: Any) -> Any:
        sandbox = self._sandbox
        match method, steps:
            case "GET", ["faults"]:
                return sandbox.faults.all()
            case "POST", ["faults"]:
                return asdict(sandbox.fault(**body))
            case "DELETE", ["faults"]:
                sandbox.clear_faults()
                return {}
            case "GET", ["late"]:
                return {"waiting": sandbox.late()}
            case "POST", ["late"]:
                sandbox.apply_late()
                return {}
            case "PATCH", ["instance"]:
                sandbox.change_settings(body)
                return sandbox.settings()
            case "GET", ["requests"]:
                return [asdict(request) for request in sandbox.requests()]
            case "DELETE", ["requests"]:
                sandbox.clear_requests()
                return {}
        return None
