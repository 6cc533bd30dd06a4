"""Limit the wrong attempts of an account and of a network.

The steps of one attempt:

1. `begin` commits a row, or raises `Limited`. No password has been hashed so far.
2. The caller checks the password or code.
3. `finish` records in the row how the attempt ended.

An unfinished row counts as a wrong attempt. So parallel requests get no more guesses than requests
in sequence, and a process that dies gives no guess back.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from cascade.addresses import Client
from staff.models import Outcome, SignInEvent, Step

logger = logging.getLogger("staff.sign_in")

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
KEPT_FOR = 90 * DAY
ACCOUNT, NETWORK = "account", "network address"


@dataclass(frozen=True)
class Limit:
    """Allow `attempts` within a time; if `locks` is set, a superuser can lift the limit."""

    attempts: int
    within: timedelta
    locks: bool = False


@dataclass(frozen=True)
class Scope:
    """Steps that are counted together, the outcomes that count, and their limits."""

    steps: Collection[Step]
    counted: Collection[Outcome]
    account: Collection[Limit]
    network: Collection[Limit]


_WRONG = (Outcome.PENDING, Outcome.REFUSED)
_OF_ACCOUNT = (Limit(20, DAY, locks=True), Limit(5, 15 * MINUTE))
_OF_NETWORK = (Limit(100, DAY, locks=True), Limit(20, 15 * MINUTE))
_SCOPES = (
    Scope((Step.PASSWORD, Step.CODE, Step.PROVIDER), _WRONG, _OF_ACCOUNT, _OF_NETWORK),
    # Somebody with a stolen session must not guess the password here.
    # Wrong sign-ins of strangers must not stop the owner from changing the password.
    Scope((Step.CHANGE,), _WRONG, _OF_ACCOUNT, _OF_NETWORK),
    # Each request sends a mail, so every request counts, whatever its outcome.
    Scope((Step.RESET,), (*_WRONG, Outcome.DONE), (Limit(3, HOUR),), (Limit(10, HOUR),)),
)
_SCOPE_OF = {step: scope for scope in _SCOPES for step in scope.steps}


@dataclass(eq=False)
class Limited(Exception):
    """The attempt was not checked, because `subject` has reached its limit until `until`."""

    subject: str
    until: datetime
    locked: bool

    @property
    def message(self) -> str:
        """Text for the page and the journal: the subject, the time in UTC, and what to do."""
        until = f"{self.until + MINUTE:%Y-%m-%d %H:%M} UTC"
        return _MESSAGES[self.subject, self.locked].format(until=until)


_MESSAGES = {
    (ACCOUNT, True): gettext_lazy(
        "This account is locked until {until} after too many wrong attempts. "
        "Ask an administrator to unlock it."
    ),
    (NETWORK, True): gettext_lazy(
        "This network address is locked until {until} after too many wrong attempts. "
        "Ask an administrator to unlock it."
    ),
    (ACCOUNT, False): gettext_lazy("Too many attempts for this account. Try again after {until}."),
    (NETWORK, False): gettext_lazy(
        "Too many attempts for this network address. Try again after {until}."
    ),
}


def account_of(username: str) -> tuple[User | None, str]:
    """Return the user, and the account's name in the journal.

    An unknown username is hashed, because people type passwords into that field. The user is then
    None.
    """
    if user := get_user_model().objects.filter(username=username).first():
        return user, user.username
    return None, f"unknown:{_hashed(username)}"


def account_of_mail(email: str) -> str:
    """Return the name of an email address in the journal: a hash."""
    return f"mail:{_hashed(email)}"


def begin(
    step: Step, *, account: str, client: Client | None = None, user: User | None = None
) -> SignInEvent:
    """Record an attempt as pending before the password or code is checked.

    Without `client` only the limits of the account apply; with an empty `account` only those of the
    network.

    Raises `Limited` if a limit is reached.
    """
    event = SignInEvent(step=step, account=account, user=user)
    if client:
        event.address, event.network = client.address, client.network
    with transaction.atomic(durable=True):
        _lock(account, event.network)
        limited = _limited(event)
        if limited is None:
            event.save()
        elif not _told_lately(event, limited):
            event.outcome, event.reason = Outcome.LIMITED, limited.message
            event.save()
    if limited:
        logger.warning("%s: %s (%s)", step.label, limited.message, _who(event))
        raise limited
    return event


def finish(
    event: SignInEvent, outcome: Outcome, reason: str = "", *, user: User | None = None
) -> None:
    """Record how an attempt ended, and its user if the user was not known before."""
    if user:
        event.user, event.account = user, user.username
    event.outcome, event.reason = outcome, reason[:200]
    event.save(update_fields=["outcome", "reason", "user", "account"])
    _log(event)


def record(step: Step, *, user: User, reason: str) -> None:
    """Record a change of how a user signs in, for example a new password."""
    _record(step=step, user=user, account=user.username, reason=reason)


def unlock(*, account: str = "", network: str = "", by: str) -> None:
    """Ignore the earlier wrong attempts of an account or a network from now on.

    `by` is the author in the journal. The rows stay.
    """
    _record(
        step=Step.UNLOCK,
        account=account,
        network=network,
        reason=_("By {author}.").format(author=by),
    )


def forget_old() -> int:
    """Delete the events older than 90 days, and return how many."""
    deleted, _ = SignInEvent.objects.filter(at__lt=timezone.now() - KEPT_FOR).delete()
    return deleted


def _record(**fields: Any) -> None:
    _log(SignInEvent.objects.create(outcome=Outcome.DONE, **fields))


def _limited(event: SignInEvent) -> Limited | None:
    scope = _SCOPE_OF[Step(event.step)]
    counted = SignInEvent.objects.filter(step__in=scope.steps, outcome__in=scope.counted)
    unlocked = Q(step=Step.UNLOCK)
    found = None
    if event.account:
        forgiven = unlocked | Q(outcome=Outcome.SIGNED_IN)
        mine = Q(account=event.account)
        found = _reached(ACCOUNT, scope.account, counted, mine=mine, forgiven=forgiven)
    if event.network and not found:
        # A successful sign-in does not reset the network: it would allow guesses at other accounts.
        mine = Q(network=event.network)
        found = _reached(NETWORK, scope.network, counted, mine=mine, forgiven=unlocked)
    return found


def _reached(
    subject: str,
    limits: Collection[Limit],
    counted: QuerySet[SignInEvent],
    *,
    mine: Q,
    forgiven: Q,
) -> Limited | None:
    """Return the first reached limit, or None.

    Attempts count since the newest `forgiven` event.
    """
    now = timezone.now()
    last = SignInEvent.objects.filter(mine, forgiven).aggregate(at=Max("at"))["at"]
    for limit in limits:
        since = max(now - limit.within, last or now - limit.within)
        newest = counted.filter(mine, at__gt=since).order_by("-at").values_list("at", flat=True)
        if len(times := newest[: limit.attempts]) == limit.attempts:
            return Limited(subject, times[limit.attempts - 1] + limit.within, limit.locks)
    return None


def _told_lately(event: SignInEvent, limited: Limited) -> bool:
    """Return whether the journal has a row about this limit from the last 15 minutes.

    One row is enough: an attack must not fill the disk.
    """
    mine = Q(account=event.account) if limited.subject == ACCOUNT else Q(network=event.network)
    told = SignInEvent.objects.filter(mine, outcome=Outcome.LIMITED)
    return told.filter(at__gt=timezone.now() - 15 * MINUTE).exists()


def _lock(*keys: str) -> None:
    """Lock the keys in a fixed order, so that parallel attempts count each other."""
    with connection.cursor() as cursor:
        for key in sorted({f"sign-in {key}" for key in keys if key}):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])


def _hashed(text: str) -> str:
    return salted_hmac("staff.limits", text.casefold()).hexdigest()[:16]


def _who(event: SignInEvent) -> str:
    """Name the event and its user by their numbers: the journal has the account and the address."""
    return f"sign-in {event.pk or '-'}, user {event.user_id or '-'}"


def _log(event: SignInEvent) -> None:
    level = logging.WARNING if event.outcome == Outcome.REFUSED else logging.INFO
    reason = f": {event.reason}" if event.reason else ""
    logger.log(level, "%s%s (%s)", event, reason, _who(event))
