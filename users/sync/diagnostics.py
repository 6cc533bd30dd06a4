"""Check that everything is set up and healthy. Each finding has a meaning and a fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django.utils import timezone
from standardwebhooks import Webhook

from users.clerk import Clerk, Deadline, clerk, signatures
from users.errors import ClerkDenied, ClerkError, ClerkNotConfigured, ClerkRefused
from users.models import (
    BulkRun,
    RowStatus,
    RunStatus,
    Source,
    Status,
    SyncAttempt,
    WebhookDelivery,
)
from users.sync.bulk.plan import counted
from users.sync.bulk.run import CONTINUES_THERE, bring_up_to_date, resume_command
from users.sync.messages import age
from users.sync.mirror import instance, listing, report, worker
from users.sync.mirror.health import Events, MirrorStatus, status
from users.sync.mirror.report import Kind

CLOCK, CLOCK_AT_MOST = timedelta(seconds=60), timedelta(minutes=5)
"""Clock differences: the first is a warning; above the second, Clerk's events are refused."""
OPEN_FOR = timedelta(minutes=5)
OLDEST_POSTGRESQL = 14


class Level(Enum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """Result of one check. `fix` is a command or a variable, "" if there is nothing to do."""

    subject: str
    level: Level
    meaning: str
    fix: str = ""


Findings = Iterator[Finding]


def _ok(subject: str, meaning: str) -> Finding:
    return Finding(subject, Level.OK, meaning)


def _warning(subject: str, meaning: str, fix: str) -> Finding:
    return Finding(subject, Level.WARNING, meaning, fix)


def _broken(subject: str, meaning: str, fix: str) -> Finding:
    return Finding(subject, Level.BROKEN, meaning, fix)


def check() -> Findings:
    """Run all checks, in the order in which they depend on each other.

    A failure becomes a finding, and the checks that do not depend on it still run.
    """
    yield from _clerk()
    yield from _webhook_secret()
    try:
        connection.ensure_connection()
    except DatabaseError:
        yield _broken("Database", "It does not answer.", "DATABASE_URL, or start PostgreSQL")
        return
    try:
        yield from _stored()
    except DatabaseError as error:
        meaning = f"It failed while it was looked at ({type(error).__name__}): {error}".strip()
        yield _broken("Database", meaning, "its log; then manage.py clerk_check again")


def _stored() -> Findings:
    yield from _database()
    unapplied = _unapplied()
    if unapplied:
        yield _broken("Migrations", f"{unapplied} are not applied.", "manage.py migrate")
        return
    yield _ok("Migrations", "All are applied.")
    for findings in (
        _instance,
        _indexes,
        _list_triggers,
        _search,
        _twins,
        _attempts,
        _deliveries,
        _worker,
        _runs,
        _mirror,
    ):
        yield from findings()


# --- Clerk ---------------------------------------------------------------------------------------


def _clerk() -> Findings:
    try:
        client = clerk()
    except ClerkNotConfigured as error:
        meaning = f"{error.summary}. Saves of linked users fail safely."
        yield _broken("Clerk key", meaning, "CLERK_SECRET_KEY")
        return
    live = settings.CLERK_SECRET_KEY.startswith("sk_live_")
    if live == settings.DEBUG:
        kind, mode = ("production", "on") if live else ("development", "off")
        meaning = f"It is of a {kind} instance, and DEBUG is {mode}."
        yield _warning("Clerk key", meaning, "CLERK_SECRET_KEY or DEBUG")
    else:
        yield _ok("Clerk key", f"It is of a {'production' if live else 'development'} instance.")
    yield from _answers(client)


def _answers(client: Clerk) -> Findings:
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    try:
        count = client.count_users(deadline=deadline)
        apart = client.time(deadline=deadline) - timezone.now()
    except ClerkDenied as error:
        yield _broken("Clerk", f"It does not accept the key ({error.code}).", "CLERK_SECRET_KEY")
    except ClerkRefused as error:
        meaning = f"It refuses version {settings.CLERK_API_VERSION} or the address ({error.code})."
        yield _broken("Clerk", meaning, "CLERK_API_VERSION, CLERK_API_URL")
    except ClerkError as error:
        yield _broken("Clerk", f"{error.summary}.", "CLERK_API_URL, or the network")
    else:
        version = settings.CLERK_API_VERSION
        yield _ok(
            "Clerk", f"It accepts the key and version {version}; it has {counted(count, 'user')}."
        )
        yield _clock(abs(apart))


def _instance() -> Findings:
    """Check that the key belongs to the Clerk instance that has our users."""
    try:
        answering = clerk().get_instance(deadline=Deadline(settings.CLERK_EDIT_DEADLINE))
    except ClerkError:
        return  # `_answers` reports it
    ours = instance.remembered()
    if ours is None:
        meaning = f"It is {answering.id}; a scan or the worker finds out whether it has our users."
        yield _warning("Clerk instance", meaning, "manage.py clerk_diff --refresh")
    elif ours.instance_id != answering.id:
        meaning = f"The key is of {answering.id}, our users live in {ours.instance_id}."
        fix = f"CLERK_SECRET_KEY, or manage.py clerk_check --accept-instance {answering.id}"
        yield _broken("Clerk instance", meaning, fix)
    else:
        yield _ok("Clerk instance", f"It is {answering.id}, which has our users.")


def _clock(apart: timedelta) -> Finding:
    said, fix = f"It is {apart.total_seconds():.0f} s from Clerk's", "set the clock by NTP"
    if apart > CLOCK_AT_MOST:
        return _broken("Clock", f"{said}: every event is refused.", fix)
    if apart > CLOCK:
        return _warning("Clock", f"{said}; at five minutes events are refused.", fix)
    return _ok("Clock", "It agrees with Clerk's.")


def _webhook_secret() -> Findings:
    try:
        for secret in signatures.secrets():
            Webhook(secret)
    except Exception:  # the library raises its own errors and those of binascii
        meaning = "It cannot be read, so every event of Clerk is refused."
        yield _broken("Webhook secret", meaning, "CLERK_WEBHOOK_SIGNING_SECRET")
    else:
        yield _ok("Webhook secret", "It is set; whether it is Clerk's, the next event shows.")


# --- Database ------------------------------------------------------------------------------------


def _database() -> Findings:
    version = connection.pg_version // 10_000  # type: ignore[attr-defined]
    if version < OLDEST_POSTGRESQL:
        meaning = f"PostgreSQL {version} is too old."
        yield _broken("Database", meaning, f"PostgreSQL {OLDEST_POSTGRESQL} or newer")
        return
    pooler = _pooler()
    yield _ok("Database", f"PostgreSQL {version}{f', {pooler}' if pooler else ''}.")


def _pooler() -> str:
    """Describe the connection pooler between us and PostgreSQL; "" for none.

    A pooler invents the backend id that it reports at the start of a connection. In transaction
    mode, a second connection gets the backend that a first one has just released.
    """
    first, second = connections["default"].copy(), connections["default"].copy()
    try:
        first.set_autocommit(False)
        _backend(first)
        second.ensure_connection()
        told = second.connection.info.backend_pid
        before = _backend(second)
        first.rollback()
        moved = _backend(second) != before
    finally:
        first.close()
        second.close()
    if moved:
        return "behind a pooler in transaction mode"
    return "behind a pooler, in session mode as it seems" if told != before else ""


def _backend(through: object) -> int:
    with through.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _unapplied() -> int:
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _indexes() -> Findings:
    missing = list(_missing())
    if missing:
        effect = "Lists and scans are slow, or an email can be stored twice."
        meaning = f"Missing: {', '.join(missing)}. {effect}"
        yield _broken("Indexes", meaning, _how_to_make("0001 (and later)"))
    else:
        yield _ok("Indexes", "All are there.")


def _how_to_make(migration: str) -> str:
    """Name the command that makes what a migration made, or that shows its SQL."""
    if settings.CASCADE_SCHEMA:
        return "manage.py adopt_database"
    return f"manage.py sqlmigrate users {migration} shows how they are made"


# Django's introspection does not tell whether PostgreSQL finished an index.
_INVALID_INDEXES = (
    "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid"
)


def _missing() -> Iterator[str]:
    """Yield the indexes and constraints of the models that the tables lack.

    An index that PostgreSQL could not finish (`NOT indisvalid`) counts as missing.
    """
    with connection.cursor() as cursor:
        cursor.execute(_INVALID_INDEXES)
        invalid = {name for (name,) in cursor.fetchall()}
        for model in apps.get_app_config("users").get_models():
            options = model._meta
            there = connection.introspection.get_constraints(cursor, options.db_table)
            there = {name: one for name, one in there.items() if name not in invalid}
            named = [*options.indexes, *options.constraints]
            yield from sorted(one.name for one in named if one.name not in there)
            unique = [one["columns"] for one in there.values() if one["unique"]]
            for field in options.local_fields:
                if field.unique and [field.column] not in unique:
                    yield f"unique {options.db_table}.{field.column}"


_TRIGGERS_THERE = """
SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgrelid IN (to_regclass('users'), to_regclass('builder_groups')) AND tgenabled IN ('O', 'A')
"""


def _list_triggers() -> Findings:
    """Check that each change of a user or a group still reaches the list of users."""
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS_THERE)
        there = set(cursor.fetchall())
    missing = [
        f"{one.name} on {one.table}"
        for one in listing.TRIGGERS
        if (one.table, one.name) not in there
    ]
    if missing:
        meaning = (
            f"Missing: {', '.join(missing)}. The list, its search and its counts are out of date. "
            "A schema tool of another application may have removed them."
        )
        yield _broken("List of users", meaning, _how_to_make("0018"))
    else:
        yield _ok("List of users", "Every change of a user or group reaches it.")


def _search() -> Findings:
    """Check that the list finds parts of words."""
    if listing.finds_parts():
        yield _ok("Search", "It finds parts of words.")
        return
    meaning = "It finds only the beginnings of words: the index of pg_trgm is missing."
    fix = f"CREATE EXTENSION IF NOT EXISTS pg_trgm; {listing.CREATE_SEARCH_INDEX}"
    if settings.CASCADE_SCHEMA:
        fix = "manage.py adopt_database"
    yield _warning("Search", meaning, fix)


# --- Unfinished work ------------------------------------------------------------------------------


def _twins() -> Findings:
    counted = Counter(one.kind for one in report.find([Kind.TWINS, Kind.TWIN_ROWS]))
    for kind, what in ((Kind.TWINS, "Clerk accounts"), (Kind.TWIN_ROWS, "builder users")):
        if count := counted[kind]:
            meaning = f"{count} {what} share their email with another one."
            yield _warning("Duplicates", meaning, f"manage.py clerk_diff --kind {kind}")
    if not counted:
        yield _ok("Duplicates", "No email is stored twice.")


def _attempts() -> Findings:
    attempts = SyncAttempt.objects.filter(status=Status.STARTED)
    old = attempts.filter(started_at__lt=Now() - OPEN_FOR).count()
    if old:
        have = "has" if old == 1 else "have"
        meaning = f"{counted(old, 'change')} {have} been pending for over five minutes."
        yield _warning("Attempts", meaning, "manage.py clerk_recover")
    else:
        yield _ok("Attempts", f"Pending changes: {attempts.count()}.")


def _deliveries() -> Findings:
    kept = WebhookDelivery.objects.filter(processed_at=None).count()
    if kept:
        meaning = f"{counted(kept, 'event')} of Clerk could not take effect yet."
        yield _warning("Events", meaning, "manage.py clerk_replay")
    else:
        yield _ok("Events", "None waits.")


def _worker() -> Findings:
    """Check that a worker is running, or say when one ran last."""
    workers = worker.status()
    jobs = counted(workers.waiting, "waiting job")
    if workers.alive:
        yield _ok("Worker", f"{workers.alive} at work; {jobs}.")
        return
    last = workers.last_round_at
    ran = f"the last round was {age(timezone.now() - last)} ago" if last else "no round is known"
    meaning = (
        f"None is at work ({ran}); {jobs}. "
        "Nothing is resolved, sent or tried again in the background."
    )
    fix = "manage.py procrastinate worker, or clerk_recover from cron"
    yield _warning("Worker", meaning, fix)


def _runs() -> Findings:
    bring_up_to_date()
    cut = BulkRun.objects.filter(
        state__in=[RunStatus.INTERRUPTED, RunStatus.STOPPED],
        rows__state=RowStatus.WAITING,
    ).distinct()
    for run in cut.order_by("pk"):
        meaning = f"Run {run.pk} did not come to its end. {run.message}"
        of_page = run.source == Source.ADMIN
        yield _warning(
            "Bulk run", meaning, str(CONTINUES_THERE) if of_page else resume_command(run)
        )


def _mirror() -> Findings:
    """Report the state of our mirror of Clerk, in the words of the pages."""
    mirror = status()
    yield _events_arrive(mirror)
    scan_fix = "manage.py clerk_diff --refresh"
    for subject, meaning, wrong in (
        ("Scan", mirror.scan_text, mirror.scan_overdue or mirror.failed_scan is not None),
        ("Last checked", mirror.stale_text, mirror.stale_users > 0),
    ):
        yield _warning(subject, meaning, scan_fix) if wrong else _ok(subject, meaning)


def _events_arrive(mirror: MirrorStatus) -> Finding:
    meaning = " ".join(
        filter(
            None,
            [
                mirror.events_text,
                f"Last event: {mirror.last_event_text}",
                f"Last refused: {mirror.refused_text}" if mirror.refused else "",
                mirror.unusable_text,
            ],
        )
    )
    if mirror.events is Events.MISSING:
        fix = "the endpoint under Webhooks in Clerk's dashboard, CLERK_WEBHOOK_SIGNING_SECRET"
        return _warning("Changes from Clerk", meaning, fix)
    if mirror.events is Events.UNKNOWN:
        return _warning("Changes from Clerk", meaning, "manage.py procrastinate worker")
    return _ok("Changes from Clerk", meaning)
