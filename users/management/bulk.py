"""The base of the bulk commands: plan, show, apply, resume, undo."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Generic, NotRequired, TypeVar, Unpack, cast

from django.core.management.base import CommandParser, OutputWrapper
from django.db import transaction
from rich.table import Table

from users.clerk import clerk
from users.errors import BulkRefused
from users.management import report
from users.management.command import Interrupted, JsonCommand, JsonOptions
from users.management.hints import with_hints
from users.management.options import (
    actor_of,
    call_rate,
    choice_of,
    positive_number,
    refuse_together,
    whole_number,
)
from users.management.terminal import print_table, watching
from users.models import BulkRun, OperationKind, RowStatus
from users.slots import shared_pace
from users.sync.bulk import files, plan_file, undo
from users.sync.bulk import run as runs
from users.sync.bulk.choosing import Choice
from users.sync.bulk.circuit import CircuitBreaker
from users.sync.bulk.clerk_values import with_clerk_values
from users.sync.bulk.limits import FailureLimit, apply_flags, check_deletions, check_size
from users.sync.bulk.lock import Lease, one_at_a_time
from users.sync.bulk.plan import ORDERS, Plan
from users.sync.bulk.run import Portion
from users.sync.display import shown, visible
from users.sync.mirror.scan import scan

SHOWN = 100


class BulkOptions(JsonOptions):
    """The options of all bulk commands, and those that a bulk command may have."""

    apply: bool
    limit: int | None
    actor: str | None
    plan_out: Path | None
    plan_file: Path | None
    resume: int | None
    retry_failed: bool
    undo: int | None
    no_refresh: bool
    max_changes: int | None
    keep_going: bool
    accept_missing: bool
    rate: float | None
    sort: str | None
    quiet: bool

    confirm: NotRequired[int | None]
    file: NotRequired[Path | None]
    ids_from: NotRequired[Path | None]
    result: NotRequired[Path | None]


BulkOptionsT = TypeVar("BulkOptionsT", bound=BulkOptions)


class BulkCommand(JsonCommand, Generic[BulkOptionsT]):
    """Without --apply, nothing is changed: the command shows its plan.

    Exit codes: 0 nothing to do, or all done; 2 a plan that was not applied, or rows that failed
    or were skipped; 1 it could not run; 130 interrupted.
    """

    keys: tuple[str, ...] = ("plan", "run")

    plan_options: tuple[str, ...] = ()
    """The options that make the plan, apart from those that select among its users.

    A plan from a file, an undo and a resumed run refuse these options.
    """

    _quiet = False

    def read(self, options: BulkOptionsT) -> None:
        """Read the input of the plan, before Clerk is asked.

        Raises `BulkRefused`.
        """

    def plan(self, options: BulkOptionsT) -> Plan:
        """Plan the changes of the selected users.

        Raises `BulkRefused`.
        """
        raise NotImplementedError

    def begin(self, run: BulkRun, options: BulkOptionsT) -> None:
        """Do what must succeed before the first change.

        Raises `BulkRefused`. The run is not stored then.
        """

    def nothing_to_do(self, options: BulkOptionsT) -> None:
        """Finish a command with --apply whose plan is empty.

        Raises `BulkRefused`.
        """

    def applied(self, run: BulkRun) -> None:
        """Finish a run that ended for now, with any outcome."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options of all bulk commands."""
        acting = parser.add_argument_group("acting")
        acting.add_argument("--apply", action="store_true", help="carry out the plan")
        acting.add_argument(
            "--limit", type=positive_number, metavar="N",
            help="do only the first N changes of the plan; --resume does the rest",
        )  # fmt: skip
        acting.add_argument(
            "--actor",
            metavar="USERNAME",
            help="staff user recorded as the author; default: cascade",
        )
        acting.add_argument(
            "--plan-out", type=Path, metavar="FILE", help="keep the plan in a new file"
        )
        acting.add_argument(
            "--plan", type=Path, metavar="FILE", dest="plan_file",
            help="do exactly what this file says; rows that changed since are skipped and named",
        )  # fmt: skip
        acting.add_argument("--resume", type=whole_number, metavar="RUN", help="go on with a run")
        acting.add_argument(
            "--retry-failed", action="store_true",
            help="with --resume: also try the failed rows again",
        )  # fmt: skip
        acting.add_argument(
            "--undo", type=whole_number, metavar="RUN", help="plan the reverse of a run"
        )
        acting.add_argument(
            "--no-refresh", action="store_true",
            help="trust our copy of Clerk's side, without looking at all its users first",
        )  # fmt: skip
        limits = parser.add_argument_group("limits")
        limits.add_argument(
            "--max-changes", type=whole_number, metavar="N",
            help="allow N changes of one type; default: 5 %% of the users, or 50 if that is more",
        )  # fmt: skip
        limits.add_argument(
            "--keep-going", action="store_true",
            help="do not stop after 20 failures in a row, nor when over 10 %% of the rows fail",
        )  # fmt: skip
        limits.add_argument(
            "--accept-missing", action="store_true",
            help="accept that very many of the accounts that we know are gone from Clerk",
        )  # fmt: skip
        limits.add_argument(
            "--rate", type=float, metavar="N",
            help="requests to Clerk a second; default: 90 %% of CLERK_RATE_LIMIT",
        )  # fmt: skip
        parser.add_argument(
            "--sort", choices=sorted(ORDERS), help="the order of the plan; default: as it comes"
        )
        parser.add_argument(
            "--quiet", action="store_true", help="say only what is not done, for cron"
        )
        super().add_arguments(parser)

    def handle(self, *args: object, **options: Unpack[BulkOptions]) -> None:
        """Run the command under the lock that admits only one bulk command at a time."""
        self._quiet = options["quiet"] or options["json"]
        with one_at_a_time() as lease:
            self._handle(lease, cast("BulkOptionsT", options))

    def _handle(self, lease: Lease, options: BulkOptionsT) -> None:
        _refuse_combinations(options, self.plan_options)
        actor, rate = actor_of(options["actor"]), call_rate(options["rate"])
        choice = choice_of(options)
        choice.users()  # refuses users that do not exist, before Clerk is asked
        if (number := options["resume"]) is not None:
            run = runs.find(number, command=self.name)
            self._resume(run, lease, rate, choice, options)
            return
        plan = self._plan(rate, choice, options)
        self._tell_plan(plan, rate, options)
        if options["plan_out"]:
            plan_file.write(plan, options["plan_out"])
        if options["apply"]:
            check_size(plan, options["max_changes"])
            _check_confirmed(plan, options)
            if plan.rows:
                with transaction.atomic():
                    run = runs.start(plan, actor=actor)
                    self.begin(run, options)
                self._carry_out(run, lease, rate, Portion(limit=options["limit"]), options)
                return
            self.nothing_to_do(options)
        self._end_without_run(plan, options)

    def _resume(
        self, run: BulkRun, lease: Lease, rate: float, choice: Choice, options: BulkOptionsT
    ) -> None:
        users = choice.among(run.rows.values_list("user_id", flat=True)) if choice.given else None
        portion = Portion(users, options["limit"], options["retry_failed"])
        plan = runs.plan_rest(run, portion).with_names()
        portion = portion.decided(run)
        self._tell_plan(plan, rate, options)
        if options["apply"]:
            _check_confirmed(plan, options)
            if not run.resume():
                raise runs.not_resumed(run)
            self._begin(run)
            runs.prepare(run, portion)
            self._carry_out(run, lease, rate, portion, options)
        else:
            self._end_without_run(plan, options)

    def _plan(self, rate: float, choice: Choice, options: BulkOptionsT) -> Plan:
        if not options["plan_file"] and options["undo"] is None:
            self.read(options)
        if not options["no_refresh"]:
            refresh(
                self.stderr,
                rate=rate,
                accept_missing=options["accept_missing"],
                quiet=self._quiet,
            )
        if options["plan_file"]:
            plan = choice.only(plan_file.read(options["plan_file"], command=self.name))
        elif options["undo"] is not None:
            undone = choice.only(undo.plan_undo(options["undo"], command=self.name))
            plan = with_clerk_values(undone)
        else:
            plan = with_clerk_values(self.plan(options))
        if options["sort"]:
            plan = plan.sorted_by(options["sort"])
        return plan.in_turns().with_names()  # as the run does it, for --limit

    def _end_without_run(self, plan: Plan, options: BulkOptionsT) -> None:
        if not self._quiet:
            self._say_how_to_apply(plan, options)
        if plan.rows:
            sys.exit(2)

    def _say_how_to_apply(self, plan: Plan, options: BulkOptionsT) -> None:
        if not plan.rows:
            self.stdout.write("Nothing to do.")
            return
        flags = apply_flags(plan.deletions)
        self.stdout.write(f"Nothing was changed. Run it again with {flags} to do this.")
        if reason := _would_stop(plan, options):
            self.stdout.write(f"With --apply it would stop: {reason}")

        # --- Applying --------------------------------------------------------------------------

    def _begin(self, run: BulkRun) -> None:
        """Record that an interruption, or the end of the database, may come after a change."""
        self.begun = (
            f"Run {run.pk} had begun, and what it did is kept. See what is left: "
            f"manage.py {self.name} --resume {run.pk}"
        )
        self.known["run"] = report.cut_off(run)

    def _carry_out(
        self,
        run: BulkRun,
        lease: Lease,
        rate: float,
        portion: Portion,
        options: BulkOptionsT,
    ) -> None:
        self._begin(run)
        with interruptible() as stop:
            try:
                with watching(f"Run {run.pk}", self.stderr, quiet=self._quiet) as tell:
                    runs.carry_out(
                        run,
                        rate=rate,
                        lease=lease,
                        stop=stop,
                        breaker=CircuitBreaker(FailureLimit(enabled=not options["keep_going"])),
                        watch=lambda progress: tell(progress.done, progress.total, _note(progress)),
                        portion=portion,
                    )
            finally:
                result = self.known["run"] = report.result_of(run)
                self.applied(run)
            if not options["json"]:
                self._show_result(run, result)
        if stop.is_set() and result["counts"].get("Waiting"):
            raise Interrupted
        if set(result["counts"]) - {"Done"}:
            sys.exit(2)

    def _show_result(self, run: BulkRun, result: report.RunResult) -> None:
        for row in result["not_done"][:SHOWN]:
            self.stdout.write(visible(f"{row['state']}: {row['label']}. {row['reason']}"))
        if (more := len(result["not_done"]) - SHOWN) > 0:
            self.stdout.write(f"… and {more} more; all are in the admin under Bulk runs.")
        if self._quiet and set(result["counts"]) == {"Done"}:
            return
        self.stdout.write(f"Run {run.pk}: {run.get_state_display().lower()}")
        table = Table()
        table.add_column("Outcome")
        table.add_column("Rows", justify="right")
        for state, count in result["counts"].items():
            table.add_row(state, str(count))
        print_table(self.stdout, table)
        if run.message:
            self.stdout.write(visible(run.message))
        if result["counts"].get("Waiting"):
            self.stdout.write(f"Go on with: {runs.resume_command(run)}")
        if result["counts"].get("Failed"):
            self.stdout.write(
                f"Failed rows are not tried again by themselves. After you fix what they name: "
                f"{runs.resume_command(run, failed=True)}"
            )

    # --- Showing ---------------------------------------------------------------------------

    def _tell_plan(self, plan: Plan, rate: float, options: BulkOptionsT) -> None:
        if options["json"]:
            self.known["plan"] = report.plan_of(plan, would_stop=_would_stop(plan, options))
        elif not self._quiet:
            self._show(plan, rate)

    def _show(self, plan: Plan, rate: float) -> None:
        for note in plan.notes:
            self.stdout.write(visible(with_hints(note)))
        if not plan.rows:
            return
        table = Table()
        for column in ("User", "What", "Field", "From", "To"):
            table.add_column(column, overflow="fold")
        for row in plan.rows[:SHOWN]:
            for field, change in row.changes.items():
                before, after = row.shown.get(field, change)
                kind = str(OperationKind(row.operation).label)
                table.add_row(visible(row.label), kind, field, shown(before), shown(after))
        print_table(self.stdout, table)
        if (more := len(plan.rows) - SHOWN) > 0:
            self.stdout.write(f"… and {more} more; --plan-out FILE or --json shows all.")
        for kind, count in plan.counts().items():
            self.stdout.write(f"{kind}: {count}")
        self.stdout.write(plan.summary(rate))


def _would_stop(plan: Plan, options: BulkOptions) -> str:
    """Say which limit would stop --apply; "" for none. A resumed run has no limit."""
    if options["resume"] is not None:
        return ""
    try:
        check_size(plan, options["max_changes"])
    except BulkRefused as refusal:
        return str(refusal)
    return ""


def _check_confirmed(plan: Plan, options: BulkOptions) -> None:
    check_deletions(plan, options.get("confirm"))


def _refuse_combinations(options: BulkOptions, plan_options: Sequence[str]) -> None:
    """Refuse options that would be ignored, or would overwrite a file.

    Raises `BulkRefused`.
    """
    refuse_together(
        options, "resume",
        ["undo", "plan_file", "plan_out", "actor", "result", "max_changes", "sort", "no_refresh",
         "accept_missing", *plan_options],
    )  # fmt: skip
    refuse_together(options, "undo", ["plan_file", *plan_options])
    refuse_together(options, "plan_file", [*plan_options, "sort"])
    refuse_together(options, "no_refresh", ["accept_missing"])
    if options["retry_failed"] and options["resume"] is None:
        raise BulkRefused("--retry-failed needs --resume RUN.")
    for needing in ("limit", "confirm"):
        if options.get(needing) is not None and not options["apply"]:
            raise BulkRefused(f"--{needing} needs --apply.")
    files.check_outputs(
        {"--plan-out": options["plan_out"], "--result": options.get("result")},
        {
            "FILE": options.get("file"),
            "--plan": options["plan_file"],
            "--ids-from": options.get("ids_from"),
        },
    )


def refresh(
    stderr: OutputWrapper, *, rate: float, accept_missing: bool, quiet: bool = False
) -> None:
    """Read all users of the instance into the mirror.

    Raises `ClerkError` and `BulkRefused`.
    """
    with watching("Looking at Clerk's users", stderr, quiet=quiet) as tell:
        seen = scan(
            clerk().paced(shared_pace(rate)),
            on_page=lambda seen: tell(seen, 0, ""),
            accept_missing=accept_missing,
            reconcile=False,  # planning must not change rows
        )
    for clerk_id, reason in seen.unreadable:
        stderr.write(visible(f"{clerk_id} cannot be read: {reason}."))


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into a request to stop.

    Changes in flight are finished, which takes at most CLERK_EDIT_DEADLINE seconds.
    """
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _note(progress: runs.Progress) -> str:
    failed = progress.counts[RowStatus.FAILED]
    skipped = progress.counts[RowStatus.SKIPPED]
    return ", ".join(
        f"{count} {word}" for count, word in ((failed, "failed"), (skipped, "skipped")) if count
    )
