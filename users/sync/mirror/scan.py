"""Scan all users of the Clerk instance, and store them in the mirror.

Windows by the time of creation are read in parallel, each page by page with a cursor. Every page is
written in one statement, so the memory in use does not depend on the number of users.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet

from users.clerk import Clerk, Deadline, UserPage, clock
from users.errors import BulkRefused, ClerkError, ClerkRefused, ClerkUnknown
from users.models import BulkRun, ClerkAccount, RunStatus
from users.sync.inbound import reconcile as reconciliation
from users.sync.mirror import agreements, instance, listing, store
from users.sync.outbound import locks

COMMAND = "scan"
WINDOWS = 2
PAGE, IDS = 500, 100
PAGE_SECONDS = 30.0
MISSING_SHARE, MISSING_AT_LEAST = 0.05, 50
TRIES = 3

Bounds = tuple[int, int | None]
"""Milliseconds since 1970: from, and up to but not including; None means open."""


@dataclass(frozen=True)
class Scan:
    """Result of a scan.

    `seen` counts users, `unreadable` holds `(id, reason)` of those that cannot be read, and `gone`
    counts accounts that were newly found deleted.
    """

    seen: int
    unreadable: tuple[tuple[str, str], ...]
    gone: int


@dataclass
class _Tally:
    """Counts that the threads of the windows share."""

    on_page: Callable[[int], None]
    seen: int = 0
    newest: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    stop: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, page: UserPage, bounds: Bounds) -> None:
        """Count the users of a page of a window.

        A user at the edge of two windows is read twice, but counted once.
        """
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
    """Read every user, and mark the accounts that Clerk does not have any more as deleted.

    1. Read the windows in parallel. Then read once more from the newest user on, so that people who
       sign up during the scan are not missed.
    2. Ask Clerk by id for accounts that were not seen, and mark those that it does not have.
    3. Reconcile the consequences. Without `reconcile` the worker does that later, and no row is
       changed here.

    `client` has a rate limiter; `on_page` is called with the number of users seen so far.

    Raises `ClerkError` when a page cannot be read. Raises `BulkRefused` when very many known
    accounts are missing, or before reading anything when a whole sample is missing: then the key
    may belong to another instance. In both cases no account is marked.
    """
    run = BulkRun.objects.create(command=COMMAND)
    # Reading pages triggers garbage collections, and each would traverse the whole process.
    gc.freeze()
    try:
        result = _scan(client, windows, _Tally(on_page), accept_missing)
        if reconcile:
            reconciliation.reconcile_due()
    except BaseException as problem:
        run.interrupt(_reason(problem))
        raise
    finally:
        gc.unfreeze()
    run.options = {"seen": result.seen, "gone": result.gone, "unreadable": len(result.unreadable)}
    run.save(update_fields=["options"])
    run.end(RunStatus.FINISHED)
    return result


def _reason(problem: BaseException) -> str:
    """Return why a scan did not finish.

    The text of other errors than ours may hold personal data, so only their type is named.
    """
    if isinstance(problem, BulkRefused | ClerkError):
        return f"{str(problem).rstrip('.')}."
    return f"It failed with {type(problem).__name__}."


def last_finished() -> BulkRun | None:
    """Return the newest scan that finished, None if there is none."""
    done = BulkRun.objects.filter(command=COMMAND, state=RunStatus.FINISHED)
    return done.order_by("-finished_at").first()


def _scan(client: Clerk, windows: int, tally: _Tally, accept_missing: bool) -> Scan:
    _check_instance(client, accept_missing)
    started_at = clock.now()
    known = ClerkAccount.objects.filter(deleted_at=None, not_found_at=None).count()
    with transaction.atomic():  # what is observed here is found nowhere else any more
        agreements.observe_all()
        store.mark_due()
    listing.refresh_all()
    expected = _read_all(client, _bounds(client, windows), tally)
    _read(client, (tally.newest + 1, None), tally)
    if expected - tally.seen - len(tally.unreadable) > _too_many(expected):
        raise ClerkUnknown(f"Clerk says that it has {expected} users, but lists {tally.seen}")
    unseen = ClerkAccount.objects.filter(deleted_at=None, seen_at__lt=started_at)
    unseen = unseen.exclude(pk__in=list(tally.unreadable))
    if not accept_missing:
        # Accounts with an earlier 404 are asked for again, but do not count as missing.
        _check_missing(known, unseen.filter(not_found_at=None).count())
    return Scan(tally.seen, tuple(tally.unreadable.items()), _mark_gone(client, unseen))


# --- Windows -------------------------------------------------------------------------------------


def _bounds(client: Clerk, windows: int) -> list[Bounds]:
    """Return windows with about the same number of users each, judged by the mirror.

    While the mirror has few accounts, the windows have the same length in time.
    """
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
    """Read all windows; return how many users Clerk says that it has.

    The first window that fails stops the others at their next page.
    """

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
    """Read a window; a page is parsed and written while the next one is read."""

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
    """Yield the pages of a window, newest first, with a small margin on each side.

    It is not documented whether Clerk's bounds are inclusive, and many people may sign up in the
    same millisecond.
    """
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
            # The user that was the cursor has been deleted meanwhile. It is not documented which of
            # the two statuses Clerk answers then.
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
    """Store a page, and try again after a deadlock.

    Saves and events write single accounts of the page at the same time.
    """
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


# --- Deleted accounts ----------------------------------------------------------------------------


def _check_instance(client: Clerk, accept_missing: bool) -> None:
    """Raise `BulkRefused` before the first page is stored if the instance is not ours.

    Ids are unique over all instances. Accounts of another instance would be taken for our users,
    and ours would be marked as deleted.
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
    """Ask for each account that was not listed, and mark those that Clerk does not have.

    Clerk's list may have skipped a user that moved from one page to another.
    """
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
