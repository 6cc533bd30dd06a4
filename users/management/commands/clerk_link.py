"""Give users without a Clerk account the one that is certainly theirs: `manage.py clerk_link`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from users.management.bulk import BulkCommand
from users.management.options import add_choice, choice_of
from users.sync.bulk.choosing import plan_link
from users.sync.bulk.plan import Plan


class Command(BulkCommand):
    name = "clerk_link"
    help = (
        "Users without a Clerk account are linked to the one that has their email as its verified "
        "primary address; of several, to the one that had it first. In doubt nothing is linked, "
        "and why is said. " + (BulkCommand.__doc__ or "")
    )
    examples = ("clerk_link", "clerk_link --drift match --apply")

    def add_arguments(self, parser: CommandParser) -> None:
        add_choice(parser)
        super().add_arguments(parser)

    def plan(self, options: dict[str, Any]) -> Plan:
        return plan_link(choice_of(options).users())
