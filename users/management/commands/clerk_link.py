"""Link users to the Clerk account that is certainly theirs: `manage.py clerk_link`."""

from __future__ import annotations

from django.core.management.base import CommandParser

from users.management.bulk import BulkCommand, BulkOptions
from users.management.options import add_choice, choice_of
from users.sync.bulk.choosing import plan_link
from users.sync.bulk.plan import Plan


class Command(BulkCommand[BulkOptions]):
    """Link the selected users that have no account."""

    name = "clerk_link"
    help = (
        "Link users without a Clerk account to the one that is certainly theirs: the one that was "
        "created for them here, else the first one with their email as its verified primary "
        "address. In doubt nothing is linked, and the plan says why. " + (BulkCommand.__doc__ or "")
    )
    examples = ("clerk_link", "clerk_link --drift match --apply")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the selection of users."""
        add_choice(parser)
        super().add_arguments(parser)

    def plan(self, options: BulkOptions) -> Plan:
        """Plan a link for each selected user whose account is certain."""
        return plan_link(choice_of(options).users())
