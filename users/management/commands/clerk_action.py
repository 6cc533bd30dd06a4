"""Invite, ban, unban, sign out, refresh or delete many users: `manage.py clerk_action ACTION`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from django.core.management.base import CommandParser

from users.errors import BulkRefused
from users.management.bulk import BulkCommand
from users.management.options import FROM_FILE, add_choice, choice_of, refuse_together, whole_number
from users.management.spreadsheets import (
    ABOUT_FILES,
    FileOptions,
    SpreadsheetCommand,
    refuse_reading,
    refuse_result,
)
from users.sync.bulk import actions
from users.sync.bulk.actions import People
from users.sync.bulk.plan import Plan
from users.sync.bulk.spreadsheet import people
from users.sync.bulk.spreadsheet.reading import Options

CHOOSERS = ("id", "ids_from", "email", "group", "role", "drift")


class ActionOptions(FileOptions):
    """The options of the plan."""

    action: str | None
    all: bool


class Command(SpreadsheetCommand[ActionOptions]):
    """Act on the users of a spreadsheet, or on selected users."""

    name = actions.COMMAND
    plan_options = ("action", *FROM_FILE, "all")
    help = (
        "Invite, ban, unban, sign out, refresh or delete users, in Clerk and here. Name them in a "
        "spreadsheet, by its columns id, clerk_id or email, or choose them by the options; both "
        "together mean those of the file that the options choose. Users that cannot be acted on "
        "are left out, and the plan says why. Deleting needs the number of users typed. "
        + ABOUT_FILES
        + (BulkCommand.__doc__ or "")
    )
    examples = (
        "clerk_action ban leavers.xlsx --apply",
        'clerk_action delete --group "Oak Hill" --apply --confirm 12',
    )

    _people: People | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the action, the selection and the confirmation of a deletion."""
        parser.add_argument(
            "action", nargs="?", choices=list(actions.ACTIONS), metavar="ACTION",
            help=f"{', '.join(actions.ACTIONS)}. sign_out ends every session of a person, refresh "
            "reads accounts from Clerk again. Clerk takes 100 invitations an hour; the others wait",
        )  # fmt: skip
        add_choice(parser, otherwise="without FILE, one of these or --all is needed")
        parser.add_argument("--all", action="store_true", help="every user")
        parser.add_argument(
            "--confirm", type=whole_number, metavar="N",
            help="how many users the plan deletes; needed to delete",
        )  # fmt: skip
        super().add_arguments(parser)

    def read(self, options: ActionOptions) -> None:
        """Require an action, and a file, a selection or --all.

        Raises `BulkRefused`.
        """
        if options["action"] is None:
            raise BulkRefused(f"Say what to do: {', '.join(actions.ACTIONS)}.")
        self._action = options["action"]
        refuse_together(options, "all", ["file", *CHOOSERS])
        if options["file"]:
            super().read(options)
            return
        refuse_result(options)
        refuse_reading(options)
        given: Mapping[str, object] = options
        if not options["all"] and not any(given[chooser] for chooser in CHOOSERS):
            raise BulkRefused(
                "Name the users: a spreadsheet, --id, --ids-from, --email, --group, --role or "
                "--drift. --all means every user. Nothing was planned."
            )

    def read_file(self, file: Path, how: Options, options: ActionOptions) -> None:
        """Read the file of people.

        Raises `FileRefused`.
        """
        self._people = people.read(file, options=how)
        self.lines = self._people.results

    def plan(self, options: ActionOptions) -> Plan:
        """Plan the action for the selected users who are also in the file, if there is one."""
        chosen = choice_of(options).users()
        return actions.plan_action(self._action, chosen, self._people)
