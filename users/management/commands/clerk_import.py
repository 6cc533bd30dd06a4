"""Create users for Clerk accounts that have none: `manage.py clerk_import`."""

from __future__ import annotations

from django.core.management.base import CommandParser

from users.clerk import clerk
from users.errors import BulkRefused
from users.management.bulk import BulkCommand, BulkOptions
from users.management.options import DefaultsOptions, add_defaults, call_rate, defaults_of
from users.slots import shared_pace
from users.sync.bulk.accounts import INCLUDED, AccountChoice, plan_import
from users.sync.bulk.plan import Plan


class ImportOptions(BulkOptions, DefaultsOptions):
    """The options of the plan."""

    email: list[str]
    domain: list[str]
    metadata: list[str]
    all: bool
    include: list[str]
    keep_ids: bool


class Command(BulkCommand[ImportOptions]):
    """Create a row for each selected account of Clerk. Nothing is sent to Clerk."""

    name = "clerk_import"
    plan_options = ("email", "domain", "metadata", "all", "include", "role", "group", "keep_ids")
    help = (
        "Make users of accounts that Clerk has and the database has not. Nothing is sent to "
        "Clerk. An account whose email a user here has is left to clerk_link; banned accounts and "
        "unverified emails are left out unless they are included. " + (BulkCommand.__doc__ or "")
    )
    examples = ("clerk_import --domain example.com", "clerk_import --all --keep-ids --apply")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the selection of accounts and the defaults of the new users."""
        choosing = parser.add_argument_group(
            "choosing", "Accounts that fit all of what is given; one of these is needed."
        )
        choosing.add_argument("--email", action="append", default=[], help="repeatable")
        choosing.add_argument(
            "--domain", action="append", default=[], help="of the email; repeatable"
        )
        choosing.add_argument(
            "--metadata", action="append", default=[], metavar="KEY=VALUE",
            help="in Clerk's public metadata; repeatable. Clerk is asked for it",
        )  # fmt: skip
        choosing.add_argument("--all", action="store_true", help="every account without a user")
        choosing.add_argument(
            "--include", action="append", default=[], choices=INCLUDED, help="repeatable"
        )
        add_defaults(parser, "of the users that are made")
        parser.add_argument(
            "--keep-ids", action="store_true",
            help="give a user the id of ours that the account's metadata names, where it is free",
        )  # fmt: skip
        super().add_arguments(parser)

    def plan(self, options: ImportOptions) -> Plan:
        """Plan one new user for each selected account.

        Raises `BulkRefused`.
        """
        choice = AccountChoice(
            emails=options["email"],
            domains=options["domain"],
            metadata=_pairs(options["metadata"]),
            everybody=options["all"],
            include=options["include"],
        )
        return plan_import(
            choice,
            defaults=defaults_of(options),
            keep_ids=options["keep_ids"],
            client=clerk().paced(shared_pace(call_rate(options["rate"]))),
        )


def _pairs(texts: list[str]) -> dict[str, str]:
    """Return what was given as KEY=VALUE. Raises `BulkRefused`."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise BulkRefused(f"--metadata {text}: write it as KEY=VALUE.")
        if key in pairs:
            raise BulkRefused(
                f"--metadata has “{key}” twice: {key}={pairs[key]} and {text}. An account has one "
                "value of a key. Nothing was planned."
            )
        pairs[key] = value
    return pairs
