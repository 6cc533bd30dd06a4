"""Create users from a spreadsheet: `manage.py import_users FILE`."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import CommandParser

from users.errors import BulkRefused
from users.management.bulk import BulkCommand
from users.management.options import FROM_FILE, DefaultsOptions, add_defaults, defaults_of
from users.management.spreadsheets import ABOUT_FILES, FileOptions, SpreadsheetCommand
from users.models import SignIn
from users.sync.bulk.plan import Plan
from users.sync.bulk.spreadsheet import newcomers
from users.sync.bulk.spreadsheet.reading import Options


class NewcomersOptions(FileOptions, DefaultsOptions):
    """The options of the plan."""

    sign_in: str | None


class Command(SpreadsheetCommand[NewcomersOptions]):
    """Create a user for each new person in a spreadsheet."""

    name = "import_users"
    plan_options = (*FROM_FILE, "sign_in", "role", "group")
    help = (
        "Make users of the people in a spreadsheet. Its columns: email, name (or first and last "
        "name), and any of role, internal_role, builder_group (by name or id). People who are "
        "here already are named and left to update_users; those who have an account in Clerk "
        "alone are left to clerk_import. " + ABOUT_FILES + (BulkCommand.__doc__ or "")
    )
    examples = (
        "import_users new.xlsx --sign-in invite",
        "import_users new.csv --sign-in create --apply",
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the kind of sign-in and the defaults of the new users."""
        parser.add_argument(
            "--sign-in", choices=SignIn.values,
            help="how they sign in: an invitation by mail (Clerk takes 100 an hour, the others "
            "wait), a Clerk account made at once, or not at all yet",
        )  # fmt: skip
        add_defaults(parser, "of people whose line names none")
        super().add_arguments(parser)

    def read_file(self, file: Path, how: Options, options: NewcomersOptions) -> None:
        """Read the new people, with the defaults for their empty cells.

        Raises `FileRefused`, and `BulkRefused` without --sign-in.
        """
        if options["sign_in"] is None:
            raise BulkRefused("Say how they sign in: --sign-in invite, create or none.")
        self._sign_in = SignIn(options["sign_in"])
        self._newcomers = newcomers.read(file, options=how, defaults=defaults_of(options))

    def plan(self, options: NewcomersOptions) -> Plan:
        """Plan one new user for each person who is not here yet."""
        plan, self.lines = self._newcomers.plan(sign_in=self._sign_in)
        return plan
