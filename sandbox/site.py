"""Serve the sandbox's pages, and do what their forms ask for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from sandbox import person
from sandbox.api import Answer
from sandbox.errors import Refusal
from sandbox.faults import APPLYING, BODIES, HOWS, KINDS
from sandbox.instance import NAMES
from sandbox.listing import count_users, list_users
from sandbox.pages import STYLE, render
from sandbox.requests import Request
from sandbox.routes import ROUTES
from sandbox.webhooks import MODES, ORDERS

if TYPE_CHECKING:
    from sandbox import Sandbox

PAGE = 50
LAST = 200
"""The number of events or requests on a page."""
FLAGS = ("banned", "locked", "two_factor_enabled")
CODES = (
    "internal_clerk_error", "service_unavailable", "too_many_requests", "resource_not_found",
    "resource_locked", "form_identifier_exists", "form_param_format_invalid",
    "form_password_pwned", "unsupported_subscription_plan_features", "authorization_invalid",
)  # fmt: skip
"""Clerk's error codes that the form for faults suggests."""


class Site:
    """The pages of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def get(self, path: str, query_string: str) -> Answer:
        """Return the page at `path`, or the 404 page."""
        sandbox, query = self._sandbox, _form(query_string)
        match path.split("/")[1:]:
            case [""]:
                return self._users(query.get("q", ""), query.get("from", "0"))
            case ["users", clerk_id] if user := sandbox.user(clerk_id):
                return self._html("user.html", user=user)
            case ["inbox"]:
                return self._inbox()
            case ["webhooks"]:
                return self._webhooks()
            case ["webhooks", event_id] if event := sandbox.webhooks.event(event_id):
                return self._html("event.html", event=event)
            case ["faults"]:
                return self._faults()
            case ["requests"]:
                return self._html("requests.html", requests=sandbox.requests()[: -LAST - 1 : -1])
            case ["style.css"]:
                return Answer(200, STYLE, content_type="text/css")
            case _:
                return self._html("missing.html", 404)

    def post(self, path: str, raw: bytes) -> Answer:
        """Do what a form asks for, and redirect to the page that shows it.

        If the form is refused, return a page with the reason.
        """
        steps, form = path.split("/")[1:], _form(raw)
        try:
            match steps:
                case ["users", clerk_id, "token"]:
                    azp = form.get("azp", "").strip()
                    token = self._sandbox.session_token(clerk_id, azp=azp or None)
                    pem = self._sandbox.session_key.public_pem
                    return self._html("token.html", token=token, public_pem=pem)
            return Answer(303, b"", {"Location": self._do(steps, form)})
        except Refusal as refusal:
            text = " ".join(problem["long_message"] for problem in refusal.errors)
            return self._html("refused.html", refusal.status, reason=text)
        except (KeyError, TypeError, ValueError) as error:
            return self._html("refused.html", 400, reason=str(error))

    def _do(self, steps: list[str], form: dict[str, str]) -> str:
        match steps:
            case ["users", clerk_id, deed]:
                return self._do_to_user(clerk_id, deed, form)
            case ["inbox", invitation_id, "accept"]:
                user = self._sandbox.accept(
                    invitation_id,
                    first_name=form.get("first_name", "").strip(),
                    last_name=form.get("last_name", "").strip(),
                    password=form.get("password", ""),
                )
                return f"/users/{user['id']}"
            case ["webhooks", *rest]:
                return self._do_with_webhooks(rest, form)
            case ["faults", *rest]:
                return self._do_with_faults(rest, form)
        raise ValueError("This form does not exist.")

    def _do_to_user(self, clerk_id: str, deed: str, form: dict[str, str]) -> str:
        sandbox, place = self._sandbox, f"/users/{clerk_id}"
        match deed:
            case "edit":
                with sandbox.state.lock:
                    person.edit_checked(
                        sandbox.state,
                        clerk_id,
                        first_name=form.get("first_name", ""),
                        last_name=form.get("last_name", ""),
                        email=form.get("email", ""),
                    )
            case "sign-in":
                sandbox.sign_in(clerk_id)
            case "begin-sign-in":
                sandbox.sign_in(clerk_id, pending=True)
            case "sign-out":
                sandbox.sign_out(clerk_id)
            case "google":
                sandbox.link_google(clerk_id)
            case "no-google":
                sandbox.unlink_google(clerk_id)
            case "flag" if form["flag"] in FLAGS:
                sandbox.edit(clerk_id, **{form["flag"]: form["to"] == "on"})
            case "delete":
                sandbox.delete(clerk_id)
                place = "/"
            case _:
                raise ValueError("This form does not exist.")
        return place

    def _do_with_webhooks(self, steps: list[str], form: dict[str, str]) -> str:
        webhooks = self._sandbox.webhooks
        match steps:
            case ["mode"]:
                webhooks.mode = form["mode"]
            case ["release"]:
                webhooks.release(form["order"], "twice" in form, int(form.get("lose") or 0))
            case [event_id, "resend"]:
                webhooks.resend(event_id)
            case _:
                raise ValueError("This form does not exist.")
        return "/webhooks"

    def _do_with_faults(self, steps: list[str], form: dict[str, str]) -> str:
        sandbox = self._sandbox
        match steps:
            case []:
                more = {name: form[name] for name in ("code", "how", "body") if form.get(name)}
                sandbox.fault(
                    form["route"],
                    form["kind"],
                    status=int(form.get("status") or 0),
                    seconds=float(form["seconds"]) if form.get("seconds") else None,
                    times=int(form["times"]) if form.get("times") else None,
                    apply="apply" in form or None,
                    **more,
                )
            case ["clear"]:
                sandbox.clear_faults()
            case ["apply-late"]:
                sandbox.apply_late()
            case ["instance"]:
                sandbox.names = form["names"]
                sandbox.normalize_names = "normalize_names" in form
                sandbox.hide_password_times = "hide_password_times" in form
            case [fault_id, "remove"]:
                sandbox.faults.remove(int(fault_id))
            case _:
                raise ValueError("This form does not exist.")
        return "/faults"

    def _users(self, search: str, start: str) -> Answer:
        state = self._sandbox.state
        offset = int(start) if start.isdecimal() and len(start) < 10 else 0
        query = [("query", search)] if search else []
        page = [("limit", str(PAGE)), ("offset", str(offset))]
        with state.lock:
            found = json.loads(list_users(state, Request("GET", "/users", query + page)))
            count = count_users(state, Request("GET", "/users/count", query))["total_count"]
        return self._html(
            "users.html", users=found, count=count, search=search, offset=offset, size=PAGE
        )

    def _inbox(self) -> Answer:
        invitations = {invitation["id"]: invitation for invitation in self._sandbox.invitations()}
        return self._html("inbox.html", mails=self._sandbox.mails()[::-1], invitations=invitations)

    def _webhooks(self) -> Answer:
        webhooks = self._sandbox.webhooks
        return self._html(
            "webhooks.html",
            url=webhooks.url,
            mode=webhooks.mode,
            modes=MODES,
            orders=ORDERS,
            held=webhooks.held,
            deliveries=webhooks.deliveries(LAST),
        )

    def _faults(self) -> Answer:
        return self._html(
            "faults.html",
            faults=self._sandbox.faults.all(),
            late=self._sandbox.late(),
            instance=self._sandbox,
            routes=ROUTES,
            kinds=KINDS,
            applying=APPLYING,
            hows=HOWS,
            bodies=BODIES,
            names=NAMES,
            codes=CODES,
        )

    def _html(self, template: str, status: int = 200, **context: Any) -> Answer:
        text = render(template, faults_on=len(self._sandbox.faults.all()), **context)
        encoded = text.encode("utf-8", "replace")
        return Answer(status, encoded, content_type="text/html; charset=utf-8")


def _form(text: str | bytes) -> dict[str, str]:
    """Return the first value of each field. "?" replaces each byte that is not UTF-8."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return {key: values[0] for key, values in parse_qs(text, errors="replace").items()}
