"""Copy Clerk's values to the database: `manage.py clerk_pull`."""

from __future__ import annotations

from django.core.management.base import CommandParser

from users.management.bulk import BulkCommand, BulkOptions
from users.management.options import add_choice, choice_of
from users.sync.bulk.choosing import FIELDS, plan_pull
from users.sync.bulk.plan import Plan


class PullOptions(BulkOptions):
    """The options of the plan."""

    field: list[str] | None


class Command(BulkCommand[PullOptions]):
    """Copy names and emails from Clerk where the two sides differ."""

    name = "clerk_pull"
    plan_options = ("field",)
    help = "Copy names and emails from Clerk to the database, where the two differ. " + (
        BulkCommand.__doc__ or ""
    )
    examples = ("clerk_pull --email mary@example.com", "clerk_pull --drift name --apply")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the selection of users and of fields."""
        add_choice(parser)
        parser.add_argument(
            "--field", action="append", choices=FIELDS, help="repeatable; default: both"
        )
        super().add_arguments(parser)

    def plan(self, options: PullOptions) -> Plan:
        """Plan to copy both fields, or the named ones."""
        return plan_pull(choice_of(options).users(), options["field"] or FIELDS)
