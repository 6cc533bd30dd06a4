"""Copy the values of the database to Clerk: `manage.py clerk_push`."""

from __future__ import annotations

from django.core.management.base import CommandParser

from users.management.bulk import BulkCommand, BulkOptions
from users.management.options import add_choice, choice_of
from users.sync.bulk.choosing import FIELDS, plan_push
from users.sync.bulk.plan import Plan


class PushOptions(BulkOptions):
    """The options of the plan."""

    field: list[str] | None


class Command(BulkCommand[PushOptions]):
    """Copy names or emails to Clerk where the two sides differ."""

    name = "clerk_push"
    plan_options = ("field",)
    help = (
        "Copy names (with --field email: emails) from the database to Clerk, where the two "
        "differ. An email is replaced at once, as verified: you vouch for the address. "
        + (BulkCommand.__doc__ or "")
    )
    examples = ('clerk_push --group "Oak Hill"', "clerk_push --field email --plan-out emails.json")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the selection of users and of fields."""
        add_choice(parser)
        parser.add_argument(
            "--field", action="append", choices=FIELDS, help="repeatable; default: name"
        )
        super().add_arguments(parser)

    def plan(self, options: PushOptions) -> Plan:
        """Plan to copy names, or the named fields."""
        return plan_push(choice_of(options).users(), options["field"] or ["name"])
