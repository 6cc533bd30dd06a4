"""Change users by a spreadsheet: `manage.py update_users FILE`."""

from __future__ import annotations

from pathlib import Path

from django.core.management.base import CommandParser

from users.management.bulk import BulkCommand
from users.management.options import FROM_FILE, add_choice, choice_of
from users.management.spreadsheets import ABOUT_FILES, FileOptions, SpreadsheetCommand
from users.sync.bulk.plan import Plan
from users.sync.bulk.spreadsheet import updates
from users.sync.bulk.spreadsheet.reading import Options


class UpdateOptions(FileOptions):
    """The options of the plan."""

    new_address: str


class Command(SpreadsheetCommand[UpdateOptions]):
    """Change each user to what their line of a spreadsheet says."""

    name = "update_users"
    plan_options = (*FROM_FILE, "new_address")
    help = (
        "Bring users to what a spreadsheet says. Its columns: a key (id, clerk_id or email) and "
        "any of name (or first and last name), email, role, internal_role, builder_group (by name "
        "or id), new_address (replace or invite: what becomes of the sign-in of a linked user "
        "with a new email). An empty cell leaves a field as it is; (none) empties a group or an "
        "internal role. A result file has a line for each line. "
        + ABOUT_FILES
        + (BulkCommand.__doc__ or "")
    )
    examples = ("update_users fixes.csv", "update_users fixes.csv --apply --limit 5")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the default for new addresses, and the selection of users."""
        parser.add_argument(
            "--new-address", choices=list(updates.WAYS), default="",
            help="for lines that do not say it themselves",
        )  # fmt: skip
        add_choice(parser)
        super().add_arguments(parser)

    def read_file(self, file: Path, how: Options, options: UpdateOptions) -> None:
        """Read the file, and plan the change of each line.

        Raises `FileRefused`.
        """
        self._read, self.lines = updates.read(file, options=how, new_address=options["new_address"])

    def plan(self, options: UpdateOptions) -> Plan:
        """Return the plan of the file for the selected users."""
        return choice_of(options).only(self._read)
