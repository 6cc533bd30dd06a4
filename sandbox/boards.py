"""The pages about mails, webhooks, faults and requests."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from sandbox.faults import APPLYING, KINDS
from sandbox.instance import Instance
from sandbox.pages import button, page, step, table, when
from sandbox.requests import Request
from sandbox.routes import ROUTES
from sandbox.state import Json
from sandbox.webhooks import MODES, ORDERS

CODES = (
    "internal_clerk_error", "service_unavailable", "too_many_requests", "resource_not_found",
    "resource_locked", "form_identifier_exists", "form_param_format_invalid",
    "form_password_pwned", "unsupported_subscription_plan_features", "authorization_invalid",
)  # fmt: skip

_LOOKS = {"delivered": "good", "accepted": "good", "failed": "bad", "lost": "bad",
          "revoked": "bad", "expired": "bad"}  # fmt: skip


# --- Inbox ---------------------------------------------------------------------------------------


def inbox(mails: list[Json], invitations: list[Json]) -> str:
    by_id = {invitation["id"]: invitation for invitation in invitations}
    letters = "".join(
        _letter(mail, by_id.get(mail.get("invitation_id", ""))) for mail in reversed(mails)
    )
    return page(
        "Inbox",
        "<p class=quiet>Every mail that Clerk would send, newest first.</p>"
        + (letters or "<p>No mail yet.</p>"),
        "/inbox",
    )


def _letter(mail: Json, invitation: Json | None) -> str:
    head = f"To <strong>{escape(mail['to'])}</strong> <span class=quiet>· {when(mail['at'])}</span>"
    if invitation is None:
        title = mail["slug"].replace("_", " ").capitalize()
        text = "The primary address of your account was changed; this is the one before."
        return f"<section><h2>{escape(title)}</h2><p>{head}</p><p class=quiet>{text}</p></section>"
    status = invitation["status"]
    if status == "pending":
        rest = (
            f"<p>It expires on {when(invitation['expires_at'])}. Accepting it makes a new account "
            "with this address.</p>"
            f"<form method=post action='/inbox/{step(invitation['id'])}/accept'>"
            "<label>First name<input name=first_name></label>"
            "<label>Last name<input name=last_name></label>"
            "<label>Password (optional)<input name=password type=password "
            "autocomplete=new-password></label>"
            "<button class=main>Accept the invitation</button></form>"
        )
    else:
        rest = f"<p>This invitation is {_state(status)}.</p>"
    return f"<section><h2>You are invited</h2><p>{head}</p>{rest}</section>"


# --- Webhooks ------------------------------------------------------------------------------------


def webhooks(url: str | None, mode: str, held: int, deliveries: list[dict[str, Any]]) -> str:
    where = f"Sent to <code>{escape(url)}</code>" if url else "Sent nowhere, as no URL is set"
    modes = "".join(
        button("/webhooks/mode", name.capitalize(), pressed=name == mode, mode=name)
        for name in MODES
    )
    orders = "".join(
        f"<option value={order}>{escape(order.replace('_', ' '))}</option>" for order in ORDERS
    )
    rows = [
        [
            when(delivery["at"]),
            f"<a href='/webhooks/{step(delivery['id'])}'>{escape(delivery['type'])}</a>",
            f"<a href='/users/{step(delivery['about'])}'>{escape(delivery['about'])}</a>",
            _state(delivery["state"]),
            str(delivery["attempts"]),
            _status(delivery),
            button(f"/webhooks/{step(delivery['id'])}/resend", "Send again") if url else "",
        ]
        for delivery in deliveries
    ]
    return page(
        "Webhooks",
        f"<p class=quiet>{where}</p>"
        f"<section><h2>What becomes of new events</h2><div class=row>{modes}</div>"
        "<p class=quiet>Live: sent at once, in order. Held: kept until you release them. "
        "Lost: never sent.</p>"
        "<form method=post action='/webhooks/release'>"
        f"<label>Order<select name=order>{orders}</select></label>"
        "<label>Lose<input name=lose type=number min=0 value=0></label>"
        "<label class=check><input type=checkbox name=twice> each one twice</label>"
        f"<button{'' if held and url else ' disabled'}>Release {held} held</button></form>"
        "</section>"
        + table(["When", "Event", "About", "State", "Attempts", "Answer", "Action"], rows),
        "/webhooks",
    )


def event(kind: str, payload: Json) -> str:
    text = json.dumps(payload, indent=2, ensure_ascii=False)
    return page(kind, f"<pre>{escape(text)}</pre>", "/webhooks")


def _status(delivery: dict[str, Any]) -> str:
    if delivery["status"] is not None:
        return str(delivery["status"])
    return "<span class=quiet>no answer</span>" if delivery["attempts"] else ""


def _state(state: str) -> str:
    return f"<span class='{_LOOKS.get(state, 'quiet')}'>{escape(state)}</span>"


# --- Faults and requests -------------------------------------------------------------------------


_HOWS = {"status": "the status below", "close": "the connection is closed",
         "reset": "the connection is reset", "hang": "never"}  # fmt: skip
_BODIES = {"html": "a page of a proxy", "json": "JSON without errors"}
_NAMES = {"on": "taken", "off": "refused as unknown parameters",
          "off_without_param": "refused, without saying which parameter",
          "both_required": "both required"}  # fmt: skip


def faults(active: list[dict[str, Any]], late: int, instance: Instance) -> str:
    rows = [
        [
            f"<span class=bad>{escape(fault['kind'])}</span>",
            f"<code>{escape(fault['route'])}</code>",
            _answered(fault),
            _applied(fault),
            "always" if fault["times"] is None else str(fault["times"]),
            button(f"/faults/{fault['id']}/remove", "Off"),
        ]
        for fault in active
    ]
    routes = "".join(f"<option>{escape(route)}</option>" for route in ["*", *ROUTES])
    codes = "".join(f"<option>{escape(code)}</option>" for code in CODES)
    kinds = "".join(
        f"<option value='{escape(kind)}'>{escape(kind.replace('_', ' '))}: {escape(text)}</option>"
        for kind, text in KINDS.items()
    )
    waiting = (
        "<section><h2>Requests under way</h2>"
        f"<p>{late} answered, but not applied yet.</p>"
        f"<div class=row>{button('/faults/apply-late', 'Apply now')}</div></section>"
    )
    return page(
        "Faults",
        "<p class=quiet>What goes wrong with Clerk, or on the way to it, until it is off again.</p>"
        "<section><h2>Switch a fault on</h2><form method=post action='/faults'>"
        f"<label>Route<select name=route>{routes}</select></label>"
        f"<label>What happens<select name=kind>{kinds}</select></label>"
        "<label>Status (empty: the usual one)"
        "<input name=status type=number min=400 max=599></label>"
        "<label>Code<input name=code list=codes value=internal_clerk_error size=30></label>"
        f"<datalist id=codes>{codes}</datalist>"
        "<label>Seconds late (empty: until you say so)"
        "<input name=seconds type=number step=any min=0 value=20></label>"
        f"<label>A late change is answered<select name=how>{_options(_HOWS)}</select></label>"
        f"<label>Body of foreign 4xx<select name=body>{_options(_BODIES)}</select></label>"
        "<label>Times (empty: always)<input name=times type=number min=1></label>"
        "<label class=check><input type=checkbox name=apply> apply first, then fail</label>"
        "<button class=main>Switch on</button></form></section>"
        + table(["Fault", "Route", "Status", "Change", "Times", "Action"], rows)
        + (f"<p class=row>{button('/faults/clear', 'All off')}</p>" if active else "")
        + (waiting if late else "")
        + _settings(instance),
        "/faults",
    )


def _answered(fault: dict[str, Any]) -> str:
    match fault["kind"]:
        case "late" if fault["how"] != "status":
            return _HOWS[fault["how"]]
        case "status" | "late":
            return f"{fault['status']} {escape(fault['code'])}"
        case "foreign_4xx":
            return f"{fault['status']} {_BODIES[fault['body']]}"
    return ""


def _applied(fault: dict[str, Any]) -> str:
    if fault["kind"] == "late":
        seconds = fault["seconds"]
        return "applied when you say so" if seconds is None else f"applied {seconds:g} s late"
    return "applied" if fault["apply"] or fault["kind"] in APPLYING else "not applied"


def _settings(instance: Instance) -> str:
    def check(name: str, text: str, on: bool) -> str:
        checked = " checked" if on else ""
        return f"<label class=check><input type=checkbox name={name}{checked}> {text}</label>"

    return (
        "<section><h2>Settings of the instance</h2>"
        "<form method=post action='/faults/instance'>"
        f"<label>First and last names<select name=names>{_options(_NAMES, instance.names)}"
        "</select></label>"
        + check("normalize_names", "store names normalized", instance.normalize_names)
        + check("hide_password_times", "hide when passwords changed", instance.hide_password_times)
        + "<button>Set</button></form></section>"
    )


def _options(texts: dict[str, str], chosen: str = "") -> str:
    return "".join(
        f"<option value={value}{' selected' if value == chosen else ''}>{escape(text)}</option>"
        for value, text in texts.items()
    )


def requests(log: list[Request]) -> str:
    rows = [
        [
            f"<code>{escape(request.method)} {escape(request.path)}</code>",
            f"<code>{escape('&'.join(f'{key}={value}' for key, value in request.query))}</code>",
            f"<code>{escape(json.dumps(request.body)) if request.body else ''}</code>",
            str(request.status) if request.status else "<span class=bad>no answer</span>",
        ]
        for request in reversed(log)
    ]
    return page(
        "Requests",
        "<p class=quiet>The last 200 to the Backend API, newest first. Passwords are not shown.</p>"
        + table(["Request", "Query", "Body", "Answer"], rows),
        "/requests",
    )
