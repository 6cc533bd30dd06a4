"""The pages about people, and what all pages share: plain HTML, every value escaped."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from urllib.parse import quote, urlencode

from sandbox.person import GOOGLE
from sandbox.state import Json

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#dcdce4, #3a3a46);
  --soft: light-dark(#f6f6f9, #1f1f27); --quiet: light-dark(#5d5d6b, #a5a5b5);
  --brand: light-dark(#5a35e8, #b7a4ff); --good: light-dark(#16713a, #6fdc97);
  --bad: light-dark(#a3160f, #ff9a92); }
* { box-sizing: border-box; }
html { background: light-dark(#fff, #15151b); color: light-dark(#1b1b22, #ececf3); }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 0 auto;
  padding: 0 1rem 4rem; }
header { display: flex; gap: 1.25rem; align-items: baseline; padding: 1rem 0;
  border-bottom: 3px solid #6c47ff; margin-bottom: 1.5rem; flex-wrap: wrap; }
header strong { font-size: 1.15rem; margin-right: auto; }
header a { text-decoration: none; padding: .15rem 0; }
header a[aria-current] { font-weight: 600; border-bottom: 2px solid var(--brand); }
a { color: var(--brand); }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 0 0 .75rem; }
p { margin: .25rem 0 1rem; max-width: 60rem; }
.quiet { color: var(--quiet); }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th { font-size: .85rem; color: var(--quiet); }
th, td { text-align: left; padding: .5rem 1rem .5rem 0; vertical-align: middle;
  border-bottom: 1px solid var(--line); }
code { font-size: .9em; overflow-wrap: anywhere; }
section { border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.25rem;
  margin: 0 0 1.25rem; }
form { display: flex; gap: .75rem; flex-wrap: wrap; align-items: end; margin: 0 0 .75rem; }
section > p:last-child, form:last-child { margin-bottom: 0; }
.row { display: flex; gap: .5rem; flex-wrap: wrap; }
.row form, td form { margin: 0; }
label { display: grid; gap: .15rem; font-size: .85rem; color: var(--quiet); }
label.check { display: flex; gap: .4rem; align-items: center; padding: .45rem 0; }
input, select, button { font: 15px/1.4 system-ui, sans-serif; padding: .35rem .65rem;
  border: 1px solid light-dark(#b8b8c6, #555564); border-radius: 6px; max-width: 100%;
  background: light-dark(#fff, #2a2a33); color: CanvasText; }
input[type=checkbox] { width: 1.1rem; height: 1.1rem; }
button { cursor: pointer; }
button:hover { border-color: var(--brand); }
button.main { background: #5a35e8; border-color: #5a35e8; color: #fff; }
button.danger { color: var(--bad); }
button[aria-pressed=true] { border-color: var(--brand); color: var(--brand); font-weight: 600; }
:focus-visible { outline: 3px solid #8f74ff; outline-offset: 1px; }
pre { overflow-x: auto; background: var(--soft); padding: 1rem; border-radius: 6px; }
"""


def users(found: list[Json], count: int, search: str, offset: int, size: int) -> str:
    rows = [
        [
            f"<a href='{_place(user)}'>{escape(_name(user))}</a>",
            escape(_email(user)),
            _flags(user),
            when(user["created_at"]),
            when(user["last_sign_in_at"]),
        ]
        for user in found
    ]
    steps = ""
    if offset:
        steps += _step("Newer", search, max(0, offset - size))
    if offset + size < count:
        steps += _step("Older", search, offset + size)
    shown = f"{offset + 1}–{offset + len(found)} of {count}" if found else "nobody"
    return page(
        "Users",
        "<form role=search><label>Name, address or id"
        f"<input type=search name=q size=40 value='{escape(search)}'></label>"
        "<button>Search</button></form>"
        f"<p class=quiet>{shown}, newest first</p>"
        + table(["Name", "Email", "State", "Created", "Last sign-in"], rows)
        + f"<p class=row>{steps}</p>",
        "/",
    )


def _step(text: str, search: str, offset: int) -> str:
    return f"<a href='/?{escape(urlencode({'q': search, 'from': offset}))}'>{text}</a>"


def user(user: Json) -> str:
    path = _place(user)
    first, last = escape(user["first_name"] or ""), escape(user["last_name"] or "")
    google = any(account["provider"] == GOOGLE for account in user["external_accounts"])
    connect = (
        button(f"{path}/no-google", "Disconnect Google")
        if google
        else button(f"{path}/google", "Connect Google")
    )
    flags = "".join(
        button(
            f"{path}/flag", off if user[flag] else on, flag=flag, to="off" if user[flag] else "on"
        )
        for flag, on, off in (
            ("banned", "Ban", "Unban"),
            ("locked", "Lock", "Unlock"),
            ("two_factor_enabled", "Turn two-factor on", "Turn two-factor off"),
        )
    )
    return page(
        _name(user),
        f"<p>{escape(_email(user))} <span class=quiet>·</span> <code>{escape(user['id'])}</code>"
        f" {_flags(user)}</p>"
        "<section><h2>As the person</h2>"
        f"<form method=post action='{path}/edit'>"
        f"<label>First name<input name=first_name value='{first}'></label>"
        f"<label>Last name<input name=last_name value='{last}'></label>"
        "<label>New email (empty: keep)<input name=email type=email size=30></label>"
        "<button class=main>Save</button></form>"
        f"<div class=row>{button(f'{path}/sign-in', 'Sign in')}"
        f"{button(f'{path}/sign-out', 'Sign out')}{connect}"
        f"{button(f'{path}/delete', 'Delete my account', kind='danger')}</div></section>"
        "<section><h2>At the front end</h2>"
        f"<form method=post action='{path}/token'><label>Origin of the page"
        "<input name=azp type=url size=30 value='http://localhost:3000'></label>"
        "<button>Give a session token</button></form></section>"
        f"<section><h2>In Clerk's dashboard</h2><div class=row>{flags}</div></section>"
        f"{source('As the API gives it', user)}",
        "/",
    )


def token(token: str, public_pem: str) -> str:
    return page(
        "Session token",
        "<p>The person proves with it who they are. Send it within a minute, in the header "
        f"<code>Authorization</code>:</p><pre>Bearer {escape(token)}</pre>"
        "<p>The application verifies it with this key, as <code>CLERK_JWT_KEY</code>:</p>"
        f"<pre>{escape(public_pem)}</pre>",
    )


def missing() -> str:
    return page("Not here", "<p>There is no such page, or no such user any more.</p>")


def refused(text: str) -> str:
    return page(
        "That did not work", f"<p class=bad>{escape(text)}</p><p>Go back and try again.</p>"
    )


# --- What all pages share ------------------------------------------------------------------------

_NAVIGATION = {"/": "Users", "/inbox": "Inbox", "/webhooks": "Webhooks", "/faults": "Faults",
               "/requests": "Requests"}  # fmt: skip


def page(title: str, body: str, place: str = "") -> str:
    links = "".join(
        f"<a href='{path}'{' aria-current=page' if path == place else ''}>{text}</a>"
        for path, text in _NAVIGATION.items()
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{escape(title)} · Sandbox of Clerk</title><link rel=stylesheet href='/style.css'>"
        "<link rel=icon href='data:,'>"
        f"<header><strong>Sandbox of Clerk</strong>{links}</header>"
        f"<main><h1>{escape(title)}</h1>{body}</main></html>"
    )


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Cells are HTML."""
    if not rows:
        return "<p class=quiet>Nothing here yet.</p>"
    head = "".join(f"<th scope=col>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f"<div class=scroll><table>{inside}</table></div>"


def button(action: str, text: str, *, kind: str = "", pressed: bool = False, **fields: str) -> str:
    """A form of one button; `action` is a path that is escaped already."""
    hidden = "".join(
        f"<input type=hidden name='{escape(key)}' value='{escape(value)}'>"
        for key, value in fields.items()
    )
    looks = (f" class={kind}" if kind else "") + (" aria-pressed=true" if pressed else "")
    return (
        f"<form method=post action='{action}'>{hidden}<button{looks}>{escape(text)}</button></form>"
    )


def source(title: str, data: Json) -> str:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def step(text: str) -> str:
    """One step of a path, safe in an attribute."""
    return escape(quote(text, safe=""))


def when(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "<span class=quiet>never</span>"
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return escape(str(milliseconds))
    return f"<time datetime='{moment.isoformat()}'>{moment:%Y-%m-%d %H:%M:%S}</time>"


def _place(user: Json) -> str:
    return f"/users/{step(user['id'])}"


def _name(user: Json) -> str:
    return f"{user['first_name'] or ''} {user['last_name'] or ''}".strip() or _email(user)


def _email(user: Json) -> str:
    for email in user["email_addresses"]:
        if email["id"] == user["primary_email_address_id"]:
            return str(email["email_address"])
    return "no email"


def _flags(user: Json) -> str:
    bad = [flag for flag in ("banned", "locked") if user[flag]]
    calm = ["two-factor"] if user["two_factor_enabled"] else []
    calm += [str(account["provider"]).removeprefix("oauth_").title()
             for account in user["external_accounts"]]  # fmt: skip
    return " ".join(
        [f"<span class=bad>{flag}</span>" for flag in bad]
        + [f"<span class=quiet>{escape(flag)}</span>" for flag in calm]
    )
