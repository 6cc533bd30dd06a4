"""What both stores have ever held: Clerk by its events, our table by looking after each step."""

from __future__ import annotations

import itertools
from typing import Any

from sandbox import Sandbox
from users.clerk import names
from users.models import BuilderUser


class History:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._rows: set[tuple[str, Any]] = set()

    def look(self) -> None:
        """Take in what the table holds now."""
        for name, email, group in BuilderUser.objects.values_list(
            "name", "email", "builder_group_id"
        ):
            self._rows |= {("name", name), ("email", email), ("builder_group", str(group))}

    def row_had(self, field: str, value: str) -> bool:
        self.look()
        return (field, value) in self._rows

    def clerk_had(self, field: str, value: str) -> bool:
        return any(value in _values(account, field) for account in self._accounts())

    def had(self, field: str, value: str) -> bool:
        return self.row_had(field, value) or self.clerk_had(field, value)

    def bans(self, clerk_id: str, banned: bool) -> int:
        """How often the account became banned, or not banned any more."""
        states = [account["banned"] for account in self._accounts(clerk_id)]
        pairs = itertools.pairwise([False, *states])
        return sum(after is banned and before is not banned for before, after in pairs)

    def passwords(self, clerk_id: str) -> int:
        """How often the account got a password."""
        times = {account["password_last_updated_at"] for account in self._accounts(clerk_id)}
        return len(times - {None})

    def _accounts(self, clerk_id: str = "") -> list[dict[str, Any]]:
        """Every state that accounts, or this one, have been in."""
        events = self._sandbox.webhooks.events
        states = [event.payload["data"] for event in events if event.type.startswith("user.")]
        return [
            state
            for state in states
            if "email_addresses" in state and clerk_id in ("", state["id"])
        ]


def _values(account: dict[str, Any], field: str) -> list[str]:
    if field == "name":
        return [names.join(account["first_name"] or "", account["last_name"] or "")]
    return [address["email_address"] for address in account["email_addresses"]]
