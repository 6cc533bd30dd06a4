"""The pages of the sandbox: plain HTML, every value escaped."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from typing import Any

from sandbox.faults import KINDS
from sandbox.requests import Request
from sandbox.routes import ROUTES
from sandbox.state import Json
from sandbox.webhooks import MODES, ORDERS, Event, Webhooks

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto;
  padding: 0 1rem 3rem; }
header { display: flex; gap: 1.25rem; align-items: baseline; padding: 1rem 0;
  border-bottom: 3px solid #6c47ff; margin-bottom: 1.5rem; flex-wrap: wrap; }
header strong { font-size: 1.15rem; margin-right: auto; }
a { color: light-dark(#4a2bd0, #b7a4ff); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .45rem .75rem .45rem 0; vertical-align: top;
  border-bottom: 1px solid light-dark(#ddd, #444); }
form { display: inline-flex; gap: .5rem; flex-wrap: wrap; align-items: end;
  margin: .25rem 1rem .25rem 0; }
label { display: grid; font-size: .85rem; }
input, select, button { font: inherit; padding: .3rem .6rem; }
pre { overflow-x: auto; background: light-dark(#f4f4f6, #222); padding: 1rem; }
.on { font-weight: 600; color: light-dark(#a3160f, #ff9a92); }
"""


def users(found: list[Json], query: str) -> str:
    wanted = query.lower()
    shown = [user for user in found if wanted in json.dumps(user).lower()]
    rows = "".join(
        f"<tr><td><a href='/users/{escape(user['id'])}'>{escape(_name(user))}</a></td>"
        f"<td>{escape(_email(user))}</td><td>{escape(_flags(user))}</td>"
        f"<td>{_time(user['last_sign_in_at'])}</td></tr>"
        for user in sorted(shown, key=_name)
    )
    return _page(
        f"Users ({len(found)})",
        f"<form><label>Search<input name=q value='{escape(query)}'></label>"
        "<button>Search</button></form>"
        f"<table><tr><th>Name<th>Email<th>State<th>Last sign-in</tr>{rows}</table>",
    )


def user(user: Json) -> str:
    path = f"/users/{escape(user['id'])}"
    first, last = escape(user["first_name"] or ""), escape(user["last_name"] or "")
    flags = "".join(
        _button(f"{path}/flag", f"{off if user[flag] else on}", flag=flag)
        for flag, on, off in (
            ("banned", "Ban", "Unban"),
            ("locked", "Lock", "Unlock"),
            ("two_factor_enabled", "Turn two-factor on", "Turn two-factor off"),
        )
    )
    return _page(
        _name(user),
        f"<p>{escape(_email(user))} · {escape(user['id'])} · {escape(_flags(user))}</p>"
        "<h2>As the person, or in Clerk's dashboard</h2>"
        f"<form method=post action='{path}/edit'>"
        f"<label>First name<input name=first_name value='{first}'></label>"
        f"<label>Last name<input name=last_name value='{last}'></label>"
        "<label>New email<input name=email type=email></label><button>Change</button></form>"
        f"<p>{_button(f'{path}/sign-in', 'Sign in')}{flags}"
        f"{_button(f'{path}/delete', 'Delete')}</p>"
        f"<h2>As the API gives it</h2><pre>{escape(json.dumps(user, indent=2))}</pre>",
    )


def faults(active: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td class=on>{escape(fault['kind'])}</td><td>{escape(fault['route'])}</td>"
        f"<td>{fault['status']}</td><td>{'applied first' if fault['apply'] else ''}</td>"
        f"<td>{'always' if fault['times'] is None else fault['times']}</td>"
        f"<td>{_button(_removal(fault), 'Off')}</td></tr>"
        for fault in active
    )
    routes = "".join(f"<option>{escape(route)}</option>" for route in ["*", *ROUTES])
    kinds = "".join(
        f"<option value='{kind}'>{kind}: {escape(text)}</option>" for kind, text in KINDS.items()
    )
    return _page(
        "Faults",
        "<form method=post action='/faults'>"
        f"<label>Route<select name=route>{routes}</select></label>"
        f"<label>What happens<select name=kind>{kinds}</select></label>"
        "<label>Status<input name=status value=500 size=4></label>"
        "<label>Seconds<input name=seconds value=20 size=4></label>"
        "<label>Times (empty: always)<input name=times size=4></label>"
        "<label><span><input type=checkbox name=apply> apply first, then fail</span></label>"
        "<button>On</button></form>"
        f"<table><tr><th>Fault<th>Route<th>Status<th><th>Times<th></tr>{rows}</table>"
        f"<p>{_button('/faults/clear', 'All off')}</p>",
    )


def _removal(fault: dict[str, Any]) -> str:
    return f"/faults/{fault['id']}/remove"


def inbox(mails: list[Json], invitations: list[Json]) -> str:
    by_id = {invitation["id"]: invitation for invitation in invitations}
    rows = ""
    for mail in reversed(mails):
        invitation = by_id.get(mail.get("invitation_id", ""))
        status = invitation["status"] if invitation else ""
        accept = (
            f"<form method=post action='/inbox/{escape(invitation['id'])}/accept'>"
            "<label>First name<input name=first_name></label>"
            "<label>Last name<input name=last_name></label>"
            "<button>Accept the invitation</button></form>"
            if invitation and status == "pending"
            else ""
        )
        text = mail["slug"].replace("_", " ").capitalize()
        rows += (
            f"<tr><td>{_time(mail['at'])}</td><td>{escape(mail['to'])}</td>"
            f"<td>{escape(text)}</td><td>{escape(status)}</td><td>{accept}</td></tr>"
        )
    return _page("Inbox", f"<table><tr><th>When<th>To<th>Mail<th>State<th></tr>{rows}</table>")


def webhooks(sent: Webhooks) -> str:
    rows = "".join(
        f"<tr><td>{_time(event.at)}</td><td>{escape(event.type)}</td>"
        f"<td>{escape(str(event.payload['data'].get('id')))}</td><td>{escape(event.id)}</td>"
        f"<td>{escape(_delivery(event))}</td>"
        f"<td>{_button(f'/webhooks/{escape(event.id)}/send', 'Send again')}</td></tr>"
        for event in list(sent.events)[:-200:-1]
    )
    modes = "".join(
        f"<option{' selected' if mode == sent.mode else ''}>{mode}</option>" for mode in MODES
    )
    orders = "".join(
        f"<option value={order}>{order.replace('_', ' ')}</option>" for order in ORDERS
    )
    return _page(
        "Webhooks",
        f"<p>Sent to {escape(sent.url or 'nobody')}. {len(sent.held)} held back.</p>"
        f"<form method=post action='/webhooks/mode'><label>Events are<select name=mode>{modes}"
        "</select></label><button>Switch</button></form>"
        "<form method=post action='/webhooks/release'>"
        f"<label>Order<select name=order>{orders}</select></label>"
        "<label><span><input type=checkbox name=twice> each twice</span></label>"
        "<button>Release what is held</button></form>"
        f"<table><tr><th>When<th>Event<th>About<th>Id<th>Delivery<th></tr>{rows}</table>",
    )


def _delivery(event: Event) -> str:
    if not event.tries:
        return "not sent"
    return f"{event.status or event.error or 'under way'}, {event.tries} tried"


def requests(log: list[Request]) -> str:
    rows = "".join(
        f"<tr><td>{escape(request.method)}</td><td>{escape(request.path)}</td>"
        f"<td>{escape(json.dumps(request.query)) if request.query else ''}</td>"
        f"<td>{escape(json.dumps(request.body)) if request.body else ''}</td>"
        f"<td>{request.status or 'no answer'}</td></tr>"
        for request in reversed(log)
    )
    return _page(
        "Requests",
        f"<table><tr><th>Method<th>Path<th>Query<th>Body<th>Answer</tr>{rows}</table>",
    )


def missing() -> str:
    return _page("Not here", "<p>There is no such page, or no such user any more.</p>")


def _page(title: str, body: str) -> str:
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)} · Sandbox of Clerk</title><link rel=stylesheet href='/style.css'>"
        "<header><strong>Sandbox of Clerk</strong><a href='/'>Users</a><a href='/inbox'>Inbox</a>"
        "<a href='/faults'>Faults</a><a href='/webhooks'>Webhooks</a>"
        "<a href='/requests'>Requests</a></header>"
        f"<main><h1>{escape(title)}</h1>{body}</main></html>"
    )


def _button(action: str, text: str, **fields: str) -> str:
    hidden = "".join(
        f"<input type=hidden name={key} value={value}>" for key, value in fields.items()
    )
    return f"<form method=post action='{action}'>{hidden}<button>{escape(text)}</button></form>"


def _name(user: Json) -> str:
    return f"{user['first_name'] or ''} {user['last_name'] or ''}".strip() or _email(user)


def _email(user: Json) -> str:
    for email in user["email_addresses"]:
        if email["id"] == user["primary_email_address_id"]:
            return str(email["email_address"])
    return "no email"


def _flags(user: Json) -> str:
    flags = [flag for flag in ("banned", "locked") if user[flag]]
    return ", ".join(flags + (["two-factor"] if user["two_factor_enabled"] else []))


def _time(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "never"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
