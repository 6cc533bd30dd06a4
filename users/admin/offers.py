"""What the form of a user offers to one person: locked fields, withheld choices, and the reasons.

The services decide. This module only removes from the page what they would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest

from users.models import BuilderUser, InternalRole, OperationKind, Role
from users.sync.access import permissions

WANTED: Mapping[str, Any] = {
    "email": None,
    "role": Role.BUILDER,
    "internal_role": InternalRole.EMPLOYEE,
}
"""Maps each guarded field to a value that everybody may set who may change the field."""
SIGN_IN = {"invite": (OperationKind.CREATE_INVITED, ""), "create": (OperationKind.CREATE, "create")}
"""Maps the sign-in of a new user to its kind of change, and to the account of that change."""


@dataclass
class Offers:
    """`locked` fields cannot be changed, `withheld` choices are not shown, and `notes` say why."""

    locked: set[str] = field(default_factory=set)
    withheld: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def lock(self, name: str, lacking: list[str]) -> None:
        """Lock a field if permissions are lacking, and say which."""
        if lacking:
            self.locked.add(name)
            self.notes[name] = permissions.explain(lacking)

    def withhold(self, name: str, choice: str, lacking: list[str]) -> None:
        """Withhold a choice if permissions are lacking, unless the field is locked."""
        if lacking and name not in self.locked:
            self.withheld.setdefault(name, []).append(choice)
            self.notes[name] = f"Some choices are not offered. {permissions.explain(lacking)}"


def of_change(request: HttpRequest, user: BuilderUser) -> Offers:
    """Return what the form of an existing user offers."""
    offers = Offers()
    for name, wanted in WANTED.items():
        offers.lock(name, _missing(request, OperationKind.UPDATE, user, {name: wanted}))
    admin = {"role": Role.ADMIN}
    offers.withhold("role", Role.ADMIN, _missing(request, OperationKind.UPDATE, user, admin))
    return offers


def of_add(request: HttpRequest) -> Offers:
    """Return what the form of a new user offers."""
    offers = Offers()
    to_be_admin = _missing(request, OperationKind.CREATE, None, {"role": Role.ADMIN})
    offers.lock("internal_role", to_be_admin)
    offers.withhold("role", Role.ADMIN, to_be_admin)
    for choice, (kind, account) in SIGN_IN.items():
        lacking = permissions.missing(request.user, kind, account=account)
        offers.withhold("account", choice, lacking)
    return offers


def _missing(
    request: HttpRequest, kind: OperationKind, user: BuilderUser | None, wanted: Mapping[str, Any]
) -> list[str]:
    return permissions.missing(request.user, kind, user, wanted=wanted)
