"""What the form of a user offers to one person: locked fields, withheld choices, and the reasons.

The services decide. This module only removes from the page what they would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpRequest

from users.forms import Offers
from users.models import BuilderUser, InternalRole, OperationKind, Role, SignIn
from users.sync.access import permissions

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
