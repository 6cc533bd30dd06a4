"""The list of builder users."""

from __future__ import annotations

LIST = "/admin/users/builderuser/"


def shown(client, **query):
    found = client.get(LIST, query).context["cl"].result_list
    return {user.email: state_of(user) for user in found}


def state_of(user) -> str:
    """Return the state that the list shows of a user."""
    return "unseen" if user.written_since else user.entry.state
