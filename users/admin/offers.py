"""What the form of a user offers to one person, what it does not offer, and the reasons.

The services decide. This module only removes from the page what they would refuse. Clerk is not
asked: what it has is read from our mirror.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from users.forms import Offers
from users.models import (
    BuilderUser,
    ClerkAccount,
    InternalRole,
    OperationKind,
    Role,
    SignIn,
    SyncAttempt,
)
from users.sync import messages
from users.sync.access import permissions
from users.sync.mirror import comparison, store
from users.sync.operations import Follow, from_attempt
from users.sync.operations.following import ClerksValues, values_from
from users.sync.outbound import pending

WANTED: Mapping[str, object] = {
    "email": None,
    "role": Role.BUILDER,
    "internal_role": InternalRole.EMPLOYEE,
}
"""Maps each guarded field to a value that everybody may set who may change the field."""


def of_change(request: HttpRequest, user: BuilderUser) -> Offers:
    """Return what the form of an existing user offers."""
    offers = Offers()
    for name, wanted in WANTED.items():
        offers.lock(name, _why_not(request, OperationKind.UPDATE, user, {name: wanted}))
    admin = {"role": Role.ADMIN}
    offers.withhold("role", Role.ADMIN, _why_not(request, OperationKind.UPDATE, user, admin))
    return offers


def of_add(request: HttpRequest) -> Offers:
    """Return what the form of a new user offers."""
    offers = Offers()
    no_admin = _why_not(request, OperationKind.CREATE, None, {"role": Role.ADMIN})
    offers.lock("internal_role", no_admin)
    offers.withhold("role", Role.ADMIN, no_admin)
    for choice in SignIn:
        lacking = permissions.missing(request.user, choice.kind, account=choice)
        offers.withhold("account", choice, permissions.explain(lacking))
    return offers


def _why_not(
    request: HttpRequest,
    kind: OperationKind,
    user: BuilderUser | None,
    wanted: Mapping[str, object],
) -> str:
    return permissions.explain(permissions.missing(request.user, kind, user, wanted=wanted))


# --- Clerk's values --------------------------------------------------------------------------


@dataclass(frozen=True)
class Discard:
    """The button that discards the pending changes of a user.

    `button` is its text, "" if it is not offered; `why_not` says why. `left` are sentences about
    values of Clerk that the user does not take then.
    """

    button: str = ""
    why_not: str = ""
    left: tuple[str, ...] = ()


def why_not_copied(user: BuilderUser, account: ClerkAccount) -> dict[str, str]:
    """Say of each value of Clerk's that differs, but cannot be copied here, why it cannot."""
    values = values_from(user, store.user_of(account))
    if account.deleted_at:
        return dict.fromkeys(values.differing, _("The account is deleted in Clerk."))
    in_flight = pending.in_flight(user.pk) if values.differing else []
    why = dict(values.reasons)
    for field, change in values.differing.items():
        if blocking := pending.in_the_way(Follow.on(user, {field: change}), in_flight):
            why[field] = _waits_for(blocking[0])
    return why


def why_not_sent(user: BuilderUser, account: ClerkAccount) -> dict[str, str]:
    """Say of each value of the row that Clerk would refuse why it would: another account has it."""
    if comparison.same_email(user.email, account.email):
        return {}
    others = ClerkAccount.objects.filter(deleted_at=None).exclude(pk=account.pk)
    holder = comparison.with_email(others.select_related("user"), user.email).first()
    return {"email": _has_this_address(holder)} if holder else {}


def _has_this_address(account: ClerkAccount) -> str:
    if account.user is not None:
        return _("The Clerk account of {holder} ({email}) has this address.").format(
            holder=account.user, email=account.user.email
        )
    return _(
        "A Clerk account that no user here is connected to has this address. Ask an engineer "
        "whether that account is still needed."
    )


def of_discard(
    request: HttpRequest,
    user: BuilderUser,
    checks: Sequence[tuple[SyncAttempt, datetime | None]],
) -> Discard:
    """Return what the box of the pending changes offers.

    `checks` are these changes, each with the time until which Clerk may still take it, None if that
    is over.
    """
    if not checks:
        return Discard()
    operations = [from_attempt(attempt) for attempt, _ in checks]
    account = ClerkAccount.objects.filter(pk=user.clerk_id).first() if user.linked else None
    values = values_from(user, store.user_of(account)) if account else ClerksValues({}, {}, {})
    wanted = {field: change.after for field, change in values.changes.items()}
    lacking = permissions.missing_to_discard(operations, user, actor=request.user)
    lacking += permissions.missing(request.user, OperationKind.FOLLOW, user, wanted=wanted)
    if lacking:
        why_not = permissions.explain(dict.fromkeys(lacking))
        return Discard(
            why_not=ngettext(
                "You cannot discard this change. {why}",
                "You cannot discard these changes. {why}",
                len(checks),
            ).format(why=why_not)
        )
    if late := [until for _, until in checks if until]:
        return Discard(
            why_not=ngettext(
                "You can discard this change after {when}: until then Clerk may still take what "
                "was sent.",
                "You can discard these changes after {when}: until then Clerk may still take what "
                "was sent.",
                len(checks),
            ).format(when=messages.at(max(late)))
        )
    left = tuple(f"{NOT_USED[field]} {why}" for field, why in values.reasons.items())
    return Discard(button=_button(user, values, len(checks)), left=left)


NOT_USED = {
    "name": gettext_lazy("Clerk's name is not used."),
    "email": gettext_lazy("Clerk's email is not used."),
}


def _button(user: BuilderUser, values: ClerksValues, count: int) -> str:
    """Say what is done with pending changes that are discarded."""
    if not user.linked:
        return ngettext("Discard this change", "Discard these changes", count)
    if values.reasons:
        return ngettext(
            "Use the rest of Clerk's version and discard this change",
            "Use the rest of Clerk's version and discard these changes",
            count,
        )
    return ngettext(
        "Use Clerk's version and discard this change",
        "Use Clerk's version and discard these changes",
        count,
    )


def _waits_for(earlier: SyncAttempt) -> str:
    if pending.is_over(earlier):
        return _("Another change is not confirmed by Clerk yet. Decide about that one first.")
    return _("Clerk may still take another change until {at}.").format(
        at=messages.at(earlier.late_until)
    )
