"""Lift a limit of the sign-in: `manage.py unlock_sign_in`."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from cascade.addresses import Client, parsed
from staff import limits


class Command(BaseCommand):
    help = (
        "Let an account or a network address try to sign in again, whose limit of wrong attempts "
        "is reached. The journal of sign-ins records it. Superusers can do the same in the admin."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", metavar="USERNAME")
        parser.add_argument("--address", metavar="ADDRESS", help="IPv4 or IPv6")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["account"] and not options["address"]:
            raise CommandError("Name an --account or an --address.")
        if options["account"]:
            self._account(options["account"])
        if options["address"]:
            self._address(options["address"])

    def _account(self, username: str) -> None:
        user, account = limits.account_of(username)
        if user is None:
            raise CommandError(f"There is no staff user {username}.")
        limits.unlock(account=account, by="command")
        self.stdout.write(f"The account {account} can try to sign in again.")

    def _address(self, text: str) -> None:
        address = parsed(text)
        if address is None:
            raise CommandError(f"{text} is not a network address.")
        network = Client(address).network
        limits.unlock(network=network, by="command")
        self.stdout.write(f"The network address {network} can try to sign in again.")
