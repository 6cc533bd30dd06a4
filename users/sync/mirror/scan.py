"""A look at all users of the Clerk instance, kept in our copy of its side.

Windows by the time of creation are read side by side, each page by page with a cursor, and
every page goes into the table in one statement: memory stays flat, whatever the number of users.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection
from django.db.models import QuerySet
from django.utils import timezone

from users.clerk import Clerk, Deadline, UserPage, clock
from users.errors import BulkRefused, ClerkError, ClerkRefused, ClerkUnknown
from users.models import BulkRun, ClerkAccount, RunStatus
from users.sync.inbound import reconcile as reconciliation
from users.sync.mirror import agreements, instance, store
from users.sync.outbound import locks

COMMAND = "scan"
WINDOWS = 2
PAGE, IDS = 500, 100
PAGE_SECONDS = 30.0
MISSING_SHARE, MISSING_AT_LEAST = 0.05, 50
TRIES = 3

Bounds = tuple[int, int | None]
"""Milliseconds since 1970: from, and up to but not including; None is open."""


@dataclass(frozen=True)
class Scan:
    """What was seen: how many users, which `(id, reason)` cannot be read, how many are gone."""

    seen: int
    unreadable: tuple[tuple[str, str], ...]
    gone: int


@dataclass
class _Tally:
    """What the windows' threads have in common."""

    on_page: Callable[[int], None]
    seen: int = 0
    newest: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    stop: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, page: UserPage, bounds: Bounds) -> None:
        """Users at the edge of two windows are in both, and count in one."""
        created = [_milliseconds(user.created_at) for user in page.users]
        with self.lock:
            self.seen += sum(bounds[0] <= moment < (bounds[1] or moment + 1) for moment in created)
            self.newest = max([self.newest, *created])
            self.unreadable |= dict(page.unreadable)
            self.on_page(self.seen)


def scan(
    client: Clerk,
    *,
    windows: int = WINDOWS,
    on_page: Callable[[int], None] = lambda seen: None,
    accept_missing: bool = False,
    reconcile: bool = True,
) -> Scan:
    """Look at every user, and mark those that we know and Clerk has no more.

    1. Read the windows side by side; then once more from the newest user on, so that who signs
       up meanwhile is not missed.
    2. Ask Clerk by id for those that were not seen, and mark those that it does not have.
    3. Reconcile what follows from all this; without `reconcile` the worker does it later, and
       no row is changed here.

    `client` has a pace; `on_page` is called with the number of users seen. Raises `ClerkError`
    when a page cannot be had, and `BulkRefused` when very many that we know are missing, or
    all of a sample before anything is looked at: then the key may be of another instance.
    Neither marks anybody.
    """
    run = BulkRun.objects.create(command=COMMAND)
    # A page of users brings on collections, and each would look through the whole process.
    gc.freeze()
    try:
        result = _scan(client, windows, _Tally(on_page), accept_missing)
        store.mark_due()
        if reconcile:
            reconciliation.reconcile_due()
    except BaseException as problem:
        _close(run, RunStatus.INTERRUPTED, message=_reason(problem))
        raise
    finally:
        gc.unfreeze()
    options = {"seen": result.seen, "gone": result.gone, "unreadable": len(result.unreadable)}
    _close(run, RunStatus.FINISHED, options=options)
    return result


def _reason(problem: BaseException) -> str:
    """Say why a scan did not finish. Other errors than ours may hold somebody's data."""
    if isinstance(problem, BulkRefused | ClerkError):
        return f"{str(problem).rstrip('.')}."
    return f"It failed with {type(problem).__name__}."


def last_finished() -> BulkRun | None:
    """The newest scan that came to its end."""
    done = BulkRun.objects.filter(command=COMMAND, state=RunStatus.FINISHED)
    return done.order_by("-finished_at").first()


def _close(run: BulkRun, state: str, **fields: Any) -> None:
    BulkRun.objects.filter(pk=run.pk).update(state=state, finished_at=timezone.now(), **fields)


def _scan(client: Clerk, windows: int, tally: _Tally, accept_missing: bool) -> Scan:
    _check_instance(client, accept_missing)
    started_at = clock.now()
    known = ClerkAccount.objects.filter(deleted_at=None, not_found_at=None).count()
    agreements.observe_all()
    expected = _read_all(client, _bounds(client, windows), tally)
    _read(client, (tally.newest + 1, None), tally)
    if expected - tally.seen - len(tally.unreadable) > _too_many(expected):
        raise ClerkUnknown(f"Clerk says that it has {expected} users, but lists {tally.seen}")
    unseen = ClerkAccount.objects.filter(deleted_at=None, seen_at__lt=started_at)
    unseen = unseen.exclude(pk__in=list(tally.unreadable))
    if not accept_missing:
        # Those that Clerk did not find before are asked again, and surprise nobody.
        _check_missing(known, unseen.filter(not_found_at=None).count())
    return Scan(tally.seen, tuple(tally.unreadable.items()), _mark_gone(client, unseen))


# --- Windows -------------------------------------------------------------------------------------


def _bounds(client: Clerk, windows: int) -> list[Bounds]:
    """Windows with about as many users each, by those that we know; equally long ones while we
    know few."""
    edges = _quantiles(windows) if ClerkAccount.objects.count() >= PAGE * windows else []
    if not edges:
        oldest = client.list_users(newest_first=False, limit=1, deadline=Deadline(PAGE_SECONDS))
        start = _milliseconds(oldest.users[0].created_at) if oldest.users else 0
        length = (_milliseconds(clock.now()) - start) // windows
        edges = [start + length * number for number in range(1, windows)]
    return list(zip([0, *edges], [*edges, None], strict=True))


def _quantiles(windows: int) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT percentile_disc(%s::float[]) WITHIN GROUP (ORDER BY clerk_created_at)
            FROM users_clerkaccount WHERE deleted_at IS NULL
            """,
            [[number / windows for number in range(1, windows)]],
        )
        [edges] = cursor.fetchone()
    return [_milliseconds(moment) for moment in edges or []]


def _read_all(client: Clerk, windows: list[Bounds], tally: _Tally) -> int:
    """Gives how many users Clerk says that it has. The first window that fails ends the others
    at their next page."""

    def read(bounds: Bounds) -> None:
        try:
            _read(client, bounds, tally)
        except BaseException:
            tally.stop = True
            raise
        finally:
            connection.close()

    with ThreadPoolExecutor(len(windows) + 1) as pool:
        counting = pool.submit(client.count_users, deadline=Deadline(PAGE_SECONDS))
        try:
            for reading in [pool.submit(read, bounds) for bounds in windows]:
                reading.result()
        except BaseException:
            tally.stop = True
            raise
        return counting.result()


def _read(client: Clerk, bounds: Bounds, tally: _Tally) -> None:
    """A page is parsed and written while the next one is read."""

    def take(page: UserPage) -> None:
        _keep(page)
        tally.count(page, bounds)

    with ThreadPoolExecutor(1) as writer:
        try:
            writing = writer.submit(take, UserPage())
            for page in _pages(client, bounds):
                writing.result()
                writing = writer.submit(take, page)
                if tally.stop:
                    break
            writing.result()
        finally:
            writer.submit(lambda: connection.close())


def _pages(client: Clerk, bounds: Bounds) -> Iterator[UserPage]:
    """The pages of a window, newest first. A little more on each side: whether Clerk's bounds
    include themselves is not written anywhere, and many may sign up in one millisecond."""
    lower, upper = bounds
    before = upper + 1 if upper is not None else None
    cursor: str | None = None
    page = UserPage()
    while True:
        try:
            page = client.list_users(
                starting_after=cursor,
                created_after=max(lower - 2, 0),
                created_before=before,
                limit=PAGE,
                deadline=Deadline(PAGE_SECONDS),
            )
        except (ClerkRefused, ClerkUnknown) as refused:
            # The user who was the cursor has been deleted meanwhile. Which of the two Clerk
            # answers then is not documented.
            if cursor is None or refused.status not in (404, 422):
                raise
            before, cursor = _milliseconds(page.users[-1].created_at) + 2, None
            continue
        yield page
        if page.size < PAGE:
            return
        if page.last_id is None or page.last_id == cursor:
            raise ClerkUnknown("Clerk's list of users does not go on")
        cursor = page.last_id


def _keep(page: UserPage) -> None:
    """Saves and events write single accounts of the page at the same time."""
    for attempt in range(1, TRIES + 1):
        try:
            store.keep_all(page.users)
        except OperationalError as error:
            if attempt == TRIES or getattr(error.__cause__, "sqlstate", "") != locks.DEADLOCK:
                raise
        else:
            return


def _milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment else 0


# --- Who is gone ---------------------------------------------------------------------------------


def _check_instance(client: Clerk, accept_missing: bool) -> None:
    """Make sure, before the first page is stored, that the instance is ours.

    Ids are unique over all instances: accounts of another one would be taken for our people, and
    ours would be marked as deleted.
    """
    deadline = Deadline(PAGE_SECONDS)
    answering = client.get_instance(deadline=deadline)
    remembered = instance.remembered()
    if remembered is not None and remembered.instance_id != answering.id:
        raise BulkRefused(
            f"CLERK_SECRET_KEY is of the Clerk instance {answering.id}; the one of our users is "
            f"{remembered.instance_id}. Nothing was changed, and none of its users was looked "
            f"at. If this is the right one now: clerk_check --accept-instance {answering.id}."
        )
    asked = instance.known_ids()
    if asked and not accept_missing and not client.get_users(asked, deadline=deadline).size:
        raise BulkRefused(
            f"Clerk has none of {len(asked)} users that we know to be there: is CLERK_SECRET_KEY "
            "of another instance? Nothing was changed, and none of its users was looked at. If "
            "ours were really deleted, say --accept-missing."
        )
    instance.remember(answering.id, answering.environment)


def _check_missing(known: int, missing: int) -> None:
    if missing > _too_many(known):
        raise BulkRefused(
            f"{missing} of the {known} Clerk accounts that we know are missing in Clerk, which is "
            "very many. Nobody was marked as deleted. If they really were, say --accept-missing."
        )


def _too_many(known: int) -> int:
    return max(MISSING_AT_LEAST, int(known * MISSING_SHARE))


def _mark_gone(client: Clerk, unseen: QuerySet[ClerkAccount]) -> int:
    """A user who was not listed is asked for: one may have been moved from page to page."""
    ids = list(unseen.values_list("pk", flat=True))
    gone = 0
    for start in range(0, len(ids), IDS):
        asked = ids[start : start + IDS]
        page = client.get_users(asked, deadline=Deadline(PAGE_SECONDS))
        _keep(page)
        there = {user.id for user in page.users} | {clerk_id for clerk_id, _ in page.unreadable}
        missing = set(asked) - there
        store.keep_all_deleted(missing, deleted_at=clock.latest())
        gone += len(missing)
    return gone
