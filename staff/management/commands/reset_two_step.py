"""Turn two-step sign-in off for a user who lost phone and recovery codes."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from staff import limits, two_step
from staff.models import Step
from users.management.command import EngineerCommand


class Command(EngineerCommand):
    """Delete the app and the recovery codes of one staff user."""

    help = (
        "Turn two-step sign-in off for a staff user who has lost the phone and the recovery codes. "
        "Make sure that the request really comes from them. With STAFF_MFA=required they set it "
        "up again at their next sign-in. "
        "Exit code 0: done; 1: nothing was changed, and why is said."
    )
    examples = ("reset_two_step sam", "reset_two_step sam@example.com")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the username."""
        parser.add_argument("username")

    def handle(self, *args: Any, username: str, **options: Any) -> None:
        """Turn two-step sign-in off, and record it in the journal.

        Raises `CommandError` if the user does not exist or two-step sign-in is already off.
        """
        user, _ = limits.account_of(username)
        if user is None:
            raise CommandError(f"There is no staff user {username}.")
        if not two_step.is_on(user):
            raise CommandError(f"Two-step sign-in is not on for {username}.")
        two_step.turn_off(user)
        limits.record(Step.TWO_STEP, user=user, reason="Turned off by command.")
        self.stdout.write(f"Two-step sign-in is off for {username}.")
