"""Find changes that ended after their author had left the page.

The home page tells the author how they ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import QuerySet

from users.models import CREATES, SyncAttempt
from users.sync.actors import Actor
from users.sync.operations import from_attempt


def of(actor: Actor) -> QuerySet[SyncAttempt]:
    """Select the resolved changes of a person whose outcome they have not seen."""
    return SyncAttempt.objects.filter(actor_id=actor.pk if actor else None, unseen=True)


def mark_seen(actor: Actor, attempts: Iterable[SyncAttempt]) -> None:
    """Record that the author was told how these attempts ended.

    Attempts of other authors are not changed.
    """
    of(actor).filter(pk__in=[attempt.pk for attempt in attempts]).update(unseen=False)


def mark_answered(
    actor: Actor, attempt: SyncAttempt | None, *, again: SyncAttempt | None = None
) -> None:
    """Mark as seen the changes that a success answers.

    These are `again`, the change that its author opened again, and each earlier change of the same
    author that wanted the same as `attempt`.
    """
    answered = [again] if again else []
    if attempt is not None:
        kinds = CREATES if attempt.operation in CREATES else (attempt.operation,)
        earlier = of(actor).filter(operation__in=kinds, pk__lt=attempt.pk)
        answered += [one for one in earlier if _wants_the_same(one, attempt)]
    if answered:
        mark_seen(actor, answered)


def _wants_the_same(earlier: SyncAttempt, attempt: SyncAttempt) -> bool:
    if attempt.operation not in CREATES and (
        _user_of(earlier) != _user_of(attempt) or _is_about_another_thing(earlier, attempt)
    ):
        return False
    return all(
        field in attempt.changes and attempt.changes[field][1] == after
        for field, (_, after) in earlier.changes.items()
    )


def _is_about_another_thing(earlier: SyncAttempt, attempt: SyncAttempt) -> bool:
    """Tell whether the two concern different things in Clerk: two sessions, or two accounts."""
    theirs, mine = from_attempt(earlier).claims, from_attempt(attempt).claims
    return bool(mine) and not theirs.keys() <= mine.keys()


def _user_of(attempt: SyncAttempt) -> str:
    return str(attempt.user_id or attempt.details.get("user_id", ""))
