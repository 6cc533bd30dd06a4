"""Lift a limit of the sign-in: `manage.py unlock_sign_in`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from cascade.addresses import Client, parsed
from staff import limits
from users.management.command import EngineerCommand


class Command(EngineerCommand):
    """Let an account or a network try to sign in again."""

    help = (
        "Let an account or a network address try to sign in again, whose limit of wrong attempts "
        "is reached. The journal of sign-ins records it. Superusers can do the same in the admin. "
        "Exit code 0: done; 1: nothing was changed, and why is said."
    )
    examples = ("unlock_sign_in --account sam", "unlock_sign_in --address 203.0.113.7")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the account and the network address."""
        parser.add_argument("--account", metavar="USERNAME")
        parser.add_argument("--address", metavar="ADDRESS", help="IPv4 or IPv6")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check both names first, then lift the limits.

        Raises `CommandError` if nothing is named or a name is wrong.
        """
        if not options["account"] and not options["address"]:
            raise CommandError("Name an --account or an --address.")
        account = _account_of(options["account"]) if options["account"] else None
        network = _network_of(options["address"]) if options["address"] else None
        if account is not None:
            limits.unlock(account=account, by="command")
            self.stdout.write(f"The account {account} can try to sign in again.")
        if network is not None:
            limits.unlock(network=network, by="command")
            self.stdout.write(f"The network address {network} can try to sign in again.")


def _account_of(username: str) -> str:
    """Return the account's name in the journal. Raises `CommandError` for an unknown username."""
    user, account = limits.account_of(username)
    if user is None:
        raise CommandError(f"There is no staff user {username}.")
    return account


def _network_of(text: str) -> str:
    """Return the network that the limits count. Raises `CommandError` for a malformed address."""
    address = parsed(text)
    if address is None:
        raise CommandError(f"{text} is not a network address.")
    return Client(address).network
