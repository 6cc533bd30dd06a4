"""Stand on another application's tables: `manage.py adopt_database`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Unpack

import psycopg
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from users.management.command import JsonCommand, JsonOptions
from users.management.options import seconds
from users.sync.adoption import run
from users.sync.adoption.run import State

OWNER_URL = "CASCADE_OWNER_URL"
LOCK_TIMEOUT = 2.0
"""Seconds. Other clients of the table wait as long, and no longer."""


class AdoptOptions(JsonOptions):
    """The options of the command."""

    apply: bool
    owner_url: str
    clear_passwords: bool
    lock_timeout: float


class Command(JsonCommand):
    """Report, plan and carry out the adoption. It needs no system checks: they refuse before it."""

    name = "adopt_database"
    keys = ("rows", "obstacles", "by_hand", "steps", "waiting", "notes", "applied")
    help = (
        "Put the application beside another one, on its tables users and builder_groups. All other "
        "tables stand in the schema CASCADE_SCHEMA. Without --apply nothing is written: it reports "
        "rows that need to be known about, and prints the plan with its SQL. Exit code 0: nothing "
        "is left to do; 2: there are findings or steps; 1: it could not run, with a list of what "
        "is in the way."
    )
    examples = ("adopt_database", "adopt_database --apply", "adopt_database --clear-passwords")
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of a run."""
        parser.add_argument("--apply", action="store_true", help="carry out the plan")
        parser.add_argument(
            "--owner-url", metavar="URL", default="",
            help="address of the database as the owner of the tables, for this command alone; "
            f"better in the environment, as {OWNER_URL}; default: DATABASE_URL",
        )  # fmt: skip
        parser.add_argument(
            "--clear-passwords", action="store_true",
            help="also empty the column users.password, which holds plain text",
        )  # fmt: skip
        parser.add_argument(
            "--lock-timeout", type=seconds, default=LOCK_TIMEOUT, metavar="SECONDS",
            help="how long a statement may wait for a table before it lets others pass and tries "
            f"again; default: {LOCK_TIMEOUT:.0f}",
        )  # fmt: skip
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[AdoptOptions]) -> None:
        """Report or apply. It exits with code 2 if something is found, or left to do."""
        if not settings.CASCADE_SCHEMA:
            raise CommandError(
                "Set CASCADE_SCHEMA in the environment, to cascade for example: the schema for all "
                "tables of ours. Without it every table stands in one schema, and manage.py "
                "migrate makes a fresh installation."
            )
        url = options["owner_url"] or os.environ.get(OWNER_URL, "")
        try:
            state = self._apply(url, options) if options["apply"] else self._look(url, options)
        except (psycopg.Error, DatabaseError) as error:
            raise CommandError(f"{_told(error)} {self.begun or 'Nothing was changed.'}") from None
        self.known = _document(state, applied=options["apply"])
        if not options["json"]:
            for line in _lines(state, applied=options["apply"]):
                self.stdout.write(line)
        left = [*state.obstacles, *state.by_hand, *state.plan.steps, *state.plan.waiting]
        if left or (state.findings and not options["apply"]):
            sys.exit(2)

    def _look(self, url: str, options: AdoptOptions) -> State:
        with run.owner_of(url) as owner:
            return run.look(owner, clear_passwords=options["clear_passwords"])

    def _apply(self, url: str, options: AdoptOptions) -> State:
        def tell(line: str) -> None:
            self.begun = "What was done stays. Run the same again: it goes on."
            if not options["json"]:
                self.stdout.write(line)

        return run.apply(
            url,
            clear_passwords=options["clear_passwords"],
            lock_timeout=options["lock_timeout"],
            tell=tell,
        )


def _told(error: Exception) -> str:
    """Say what the database or a pooler answered, such as the end of a time limit."""
    if isinstance(error.__cause__, psycopg.Error):  # Django's own error is around it
        error = error.__cause__
    kind = type(error).__name__
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"The database refused a statement ({kind}): {error.diag.message_primary}."
    return f"The database does not answer ({kind}). Check DATABASE_URL and {OWNER_URL}."


def _document(state: State, *, applied: bool) -> dict[str, object]:
    return {
        "rows": [asdict(finding) for finding in state.findings],
        "obstacles": state.obstacles,
        "by_hand": state.by_hand,
        "steps": [
            {"title": step.title, "statements": list(step.statements)} for step in state.plan.steps
        ],
        "waiting": state.plan.waiting,
        "notes": state.plan.notes,
        "applied": applied,
    }


def _lines(state: State, *, applied: bool) -> Iterator[str]:
    if state.obstacles:
        yield "This is in the way:"
        yield from (f"  {obstacle}" for obstacle in state.obstacles)
        return
    yield "Rows that need to be known about:" if state.findings else "No row is unusual."
    for finding in state.findings:
        examples = ", ".join(finding.examples)
        yield f"  {finding.kind}: {finding.rows}. {finding.meaning} ({examples})"
    if state.by_hand:
        yield "Somebody who has the rights runs this by hand, before --apply:"
        yield from (f"  {statement};" for statement in state.by_hand)
    if state.plan.steps:
        yield "The plan, which --apply carries out:"
    for step in state.plan.steps:
        yield f"  -- {step.title}"
        yield from (f"  {statement};" for statement in step.statements)
    yield from state.plan.waiting
    yield from state.plan.notes
    if not (state.plan.steps or state.plan.waiting or state.by_hand):
        yield "Everything is adopted." if applied else "Nothing is left to do."
