"""The pages that change many people, as a browser uses them."""

from __future__ import annotations

from tests.support.change_form import text_of

BULK = "/admin/users/builderuser/bulk/"


def planned(client, users=None, query="", **fields):
    """Send the form of the page *Change many people*; return the answer."""
    chosen = {"all": "1"} if users is None else {"user": [str(user.pk) for user in users]}
    return client.post(f"{BULK}{query}", {"action_of_page": "1", **chosen, **fields})


def plan(client, users=None, query="", **fields):
    """Make a plan; return the address of its page."""
    answer = planned(client, users, query, **fields)
    assert answer.status_code == 302, text_of(answer)
    return answer.url


def press(client, page, do, **fields):
    return client.post(page, {"do": do, **fields}, follow=True)
