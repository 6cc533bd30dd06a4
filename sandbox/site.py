"""The sandbox's pages: what a browser asks for, and what its forms do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from sandbox import boards, pages, person
from sandbox.api import Answer
from sandbox.errors import Refusal
from sandbox.listing import count_users, list_users
from sandbox.requests import Request

if TYPE_CHECKING:
    from sandbox import Sandbox

PAGE = 50
FLAGS = ("banned", "locked", "two_factor_enabled")


class Site:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def get(self, path: str, query_string: str) -> Answer:
        sandbox, query = self._sandbox, _form(query_string)
        match path.split("/")[1:]:
            case [""]:
                return _html(self._users(query.get("q", ""), query.get("from", "0")))
            case ["users", clerk_id] if user := sandbox.user(clerk_id):
                return _html(pages.user(user))
            case ["inbox"]:
                return _html(boards.inbox(sandbox.mails(), sandbox.invitations()))
            case ["webhooks"]:
                webhooks = sandbox.webhooks
                last = webhooks.deliveries(200)
                return _html(boards.webhooks(webhooks.url, webhooks.mode, webhooks.held, last))
            case ["webhooks", event_id] if event := sandbox.webhooks.event(event_id):
                return _html(boards.event(event.type, event.payload))
            case ["faults"]:
                return _html(boards.faults(sandbox.faults.all(), sandbox.late(), sandbox))
            case ["requests"]:
                return _html(boards.requests(sandbox.requests()[-200:]))
            case ["style.css"]:
                return Answer(200, pages.STYLE.encode(), content_type="text/css")
            case _:
                return _html(pages.missing(), 404)

    def post(self, path: str, raw: bytes) -> Answer:
        """Does what a form says and shows where it shows; says why when it cannot."""
        steps, form = path.split("/")[1:], _form(raw)
        try:
            match steps:
                case ["users", clerk_id, "token"]:
                    azp = form.get("azp", "").strip()
                    token = self._sandbox.session_token(clerk_id, azp=azp or None)
                    return _html(pages.token(token, self._sandbox.session_key.public_pem))
            return Answer(303, b"", {"Location": self._do(steps, form)})
        except Refusal as refusal:
            text = " ".join(problem["long_message"] for problem in refusal.errors)
            return _html(pages.refused(text), refusal.status)
        except (KeyError, TypeError, ValueError) as error:
            return _html(pages.refused(str(error)), 400)

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
        raise KeyError("there is no such form")

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
                raise KeyError("there is no such form")
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
                raise KeyError("there is no such form")
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
                raise KeyError("there is no such form")
        return "/faults"

    def _users(self, search: str, start: str) -> str:
        state = self._sandbox.state
        offset = int(start) if start.isdecimal() and len(start) < 10 else 0
        query = [("query", search)] if search else []
        page = [("limit", str(PAGE)), ("offset", str(offset))]
        with state.lock:
            found = json.loads(list_users(state, Request("GET", "/users", query + page)))
            count = count_users(state, Request("GET", "/users/count", query))["total_count"]
        return pages.users(found, count, search, offset, PAGE)


def _form(text: str | bytes) -> dict[str, str]:
    """The first value of each field; "?" for what is no UTF-8."""
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return {key: values[0] for key, values in parse_qs(text, errors="replace").items()}


def _html(text: str, status: int = 200) -> Answer:
    encoded = text.encode("utf-8", "replace")
    return Answer(status, encoded, content_type="text/html; charset=utf-8")
