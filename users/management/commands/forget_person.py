"""Erase one person's names and addresses from the records: `manage.py forget_person WHO`."""

from __future__ import annotations

from django.core.management.base import CommandParser

from users.management.command import EngineerCommand
from users.sync import retention


class Command(EngineerCommand):
    """Show which records name a person; erase the names with `--apply`."""

    help = (
        "Erase the names and addresses of one person from changes, bulk runs, webhook "
        "deliveries and Django's log. Without --apply it only counts them. The builder user and "
        "the Clerk account themselves are not touched: delete them first. Exit code 0: done, or "
        "counted; 1: nothing was changed, and why is said."
    )
    examples = ("forget_person ann@example.com", "forget_person user_2abc --apply")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the person and the flag."""
        parser.add_argument("who", help="an email, the id of a builder user or a Clerk id")
        parser.add_argument("--apply", action="store_true", help="erase, instead of counting")

    def handle(self, *args: object, who: str, apply: bool, **options: object) -> None:
        """Find the person, and count or erase."""
        records = retention.records_of(retention.person_named(who))
        counts = records.erase() if apply else records.counts()
        for kind, count in counts.items():
            self.stdout.write(f"{count} {kind}")
        if apply:
            self.stdout.write("Their names and addresses are erased.")
        else:
            self.stdout.write("Nothing was changed. Use --apply to erase names and addresses.")
