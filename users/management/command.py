"""The base of all commands for engineers: their help, their errors, and the document of --json."""

from __future__ import annotations

import json
import sys
from typing import NoReturn, TextIO, TypedDict

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import InterfaceError, OperationalError, ProgrammingError
from psycopg import errors as postgresql

from users.errors import (
    BulkRefused,
    ChangeFailed,
    ClerkError,
    ClerkNotConfigured,
    ClerkUnreachable,
)
from users.management.hints import with_hints
from users.management.terminal import steady
from users.sync import messages
from users.sync.display import visible

EXAMPLES = "Examples:"


class Interrupted(SystemExit):
    """Ctrl-C ended the command: exit code 130."""

    def __init__(self) -> None:
        super().__init__(130)


VERSION = 2
"""The version of the document. docs/json.md is its schema."""


class _HelpFormatter(DjangoHelpFormatter):
    """Wraps every text except the examples, which keep their lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(EXAMPLES) else super()._fill_text(text, width, indent)


class EngineerCommand(BaseCommand):
    """A command whose help ends with `examples`, and that reports known failures in one line.

    Its output may be cut off or have any encoding. Exit codes: 1 it could not run; 130 interrupted.
    """

    examples: tuple[str, ...] = ()

    begun = ""
    """What the command has changed so far, and how to go on; "" while nothing is changed."""

    def __init__(
        self, stdout: TextIO | None = None, stderr: TextIO | None = None,
        no_color: bool = False, force_color: bool = False,
    ) -> None:  # fmt: skip
        out, err = stdout or steady(sys.stdout), stderr or steady(sys.stderr)
        super().__init__(out, err, no_color, force_color)

    def create_parser(self, prog_name: str, subcommand: str, **options: object) -> CommandParser:
        """Add the examples, and refuse shortened options: --app must not mean --apply."""
        epilog = "\n  manage.py ".join([EXAMPLES, *self.examples])
        return super().create_parser(
            prog_name, subcommand, epilog=epilog, formatter_class=_HelpFormatter,
            allow_abbrev=False, **options,
        )  # fmt: skip

    def run_from_argv(self, argv: list[str]) -> None:
        """Exit with code 1 for wrong options, and for those that cannot be stored.

        argparse's own code 2 means here that something differs or is not done.
        """
        for argument in argv[2:]:
            if (escaped := argument.encode(errors="backslashreplace").decode()) != argument:
                # Python keeps bytes that are not UTF-8 as surrogates, which no database takes.
                self.refuse_options(
                    argv, f"“{escaped}” is not text in UTF-8. If it is a file, rename it."
                )
        try:
            self.create_parser(argv[0], argv[1]).parse_args(argv[2:])
        except CommandError as error:
            self.refuse_options(argv, f"{error}\nSee manage.py {argv[1]} --help.")
        super().run_from_argv(argv)

    def refuse_options(self, argv: list[str], reason: str) -> NoReturn:
        """Write the reason and exit with code 1."""
        self.stderr.write(reason)
        sys.exit(1)

    def execute(self, *args: object, **options: object) -> str | None:
        """Report an interruption and known failures in one line.

        Raises `CommandError`, and any other exception unchanged.
        """
        try:
            return super().execute(*args, **options)
        except KeyboardInterrupt:
            self.stderr.write(self.interrupted)
            raise Interrupted from None
        except Exception as error:
            if reason := _explain(error, self.begun):
                raise CommandError(reason) from None
            raise

    @property
    def interrupted(self) -> str:
        """Return what Ctrl-C interrupted, and how to go on."""
        if self.begun:
            return f"Interrupted. {self.begun}"
        return "Interrupted before anything was changed."


class JsonOptions(TypedDict):
    """The options of a command with --json."""

    json: bool


class JsonCommand(EngineerCommand):
    """A command with --json. Stdout then holds exactly one JSON document, however it ends.

    The command itself must write nothing else to stdout then.
    """

    name: str
    """The name of the command in the document. Bulk commands also store it in plans and runs."""

    keys: tuple[str, ...] = ()
    """The keys of the document apart from `version`, `command` and `error`."""

    def __init__(
        self, stdout: TextIO | None = None, stderr: TextIO | None = None,
        no_color: bool = False, force_color: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(stdout, stderr, no_color, force_color)
        self.known: dict[str, object] = {}
        """The values of `keys` that are known so far. The others are null in the document."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --json."""
        parser.add_argument("--json", action="store_true", help="one JSON document, for machines")

    def refuse_options(self, argv: list[str], reason: str) -> NoReturn:
        """With --json, also write the document."""
        if "--json" in argv:
            self._write_document(reason)
        super().refuse_options(argv, reason)

    def execute(self, *args: object, **options: object) -> str | None:
        """With --json, write the document at the end, also after a failure."""
        if not options["json"]:
            return super().execute(*args, **options)
        reason: str | None = None
        try:
            return super().execute(*args, **options)
        except Interrupted:
            reason = self.interrupted
            raise
        except CommandError as error:
            reason = str(error)
            raise
        except Exception as error:
            reason = f"Unexpected {type(error).__name__}. Its traceback is in stderr: report it."
            raise
        finally:
            self._write_document(reason)

    def _write_document(self, error: str | None) -> None:
        document = {"version": VERSION, "command": self.name, "error": error}
        self.stdout.write(json.dumps(document | {key: self.known.get(key) for key in self.keys}))


def _explain(error: Exception, begun: str) -> str:
    """Say in one line what failed and what to do; "" for a fault in the code.

    `begun` says what was changed before.
    """
    again = begun or "Then run this command again."
    match error:
        case BulkRefused():
            return visible(with_hints(str(error)))
        case ImproperlyConfigured():
            return visible(str(error))
        case ChangeFailed():
            return visible(error.full_message)
        case ClerkError():
            return _explain_clerk(error)
        case OperationalError() | InterfaceError():
            failed = f"The database does not answer ({type(error).__name__})."
            return f"{failed} Check DATABASE_URL and PostgreSQL. {again}"
        case ProgrammingError(__cause__=postgresql.UndefinedTable() | postgresql.UndefinedColumn()):
            return f"The database lacks tables of this version. Run: manage.py migrate. {again}"
        case _:
            return ""


def _explain_clerk(error: ClerkError) -> str:
    match error:
        case ClerkNotConfigured():
            advice = "Set CLERK_SECRET_KEY, then run this command again."
        case ClerkUnreachable():
            advice = (
                f"Check CLERK_API_URL ({settings.CLERK_API_URL}) and the network, then run this "
                "command again."
            )
        case _:
            return messages.refused(error).full_message
    return f"{error.summary.rstrip('.')}. {advice}"
