"""Set the permissions of the groups of staff: `manage.py staff_groups [--apply]`."""

from __future__ import annotations

import sys

from django.core.management.base import CommandParser

from users.management.command import EngineerCommand
from users.sync.access import groups


class Command(EngineerCommand):
    """Report how the groups of staff differ from their definition, and set them with --apply."""

    help = (
        "Say how the groups Viewer, Editor, Support, Manager and Engineer differ from what they "
        "are meant to be; with --apply, bring them to it. Run it after an upgrade. Other groups "
        "are left alone. Exit code 0: nothing differs any more; 2: something differs."
    )
    examples = ("staff_groups", "staff_groups --apply")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --apply."""
        parser.add_argument("--apply", action="store_true", help="change the groups")

    def handle(self, *args: object, apply: bool, **options: object) -> None:
        """Report the differences. It exits with code 2 if any remains."""
        found = groups.differences()
        if apply:
            groups.apply()
        self._report(found, applied=apply)
        if found and not apply:
            sys.exit(2)

    def _report(self, found: list[groups.Difference], *, applied: bool) -> None:
        for difference in found:
            self.stdout.write(str(difference))
        if not found:
            self.stdout.write("The groups are as they are meant to be.")
        elif applied:
            self.stdout.write("The groups were changed to what they are meant to be.")
        else:
            self.stdout.write("Nothing was changed. --apply changes the groups.")
