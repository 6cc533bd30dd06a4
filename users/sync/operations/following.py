"""Apply Clerk's changes to the row. Nothing is sent to Clerk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from django.utils.translation import gettext as _

from users.changes import Change, Changes
from users.clerk import Clerk, ClerkUser, Deadline
from users.errors import EmailTaken, Holder, Refused
from users.models import BuilderUser, OperationKind
from users.sync.inbound.facts import unfit_name
from users.sync.mirror import comparison
from users.sync.operations.base import Operation, Seen, Verdict, write_fields

VALUES = ("name", "email")
"""The fields of a row that Clerk has too."""


class Follow(Operation):
    """Apply the name and email of the Clerk account to the row."""

    kind = OperationKind.FOLLOW

    @property
    def asks_clerk(self) -> bool:
        """Return False: Clerk has the values already."""
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Save the changed columns of the row."""
        return write_fields(row, self.changes)

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Raise `AssertionError`: nothing is ever sent."""
        raise AssertionError("following Clerk sends nothing")

    def judge(self, account: ClerkUser) -> Verdict:
        """Return `HAS_IT`: the values come from Clerk."""
        return Verdict.HAS_IT


@dataclass(frozen=True)
class ClerksValues:
    """What a row takes from its account, and what it cannot take.

    `differing` are all fields that differ, `{field: [row's, Clerk's]}`. For each of them that the
    row cannot take, `reasons` says why in one sentence, and `refused` is the refusal.
    """

    differing: Changes
    reasons: Mapping[str, str]
    refused: Mapping[str, Refused]

    @property
    def changes(self) -> Changes:
        """Return the changes that the row can take."""
        return {
            field: change for field, change in self.differing.items() if field not in self.refused
        }


def values_from(
    row: BuilderUser, account: ClerkUser, *, fields: Collection[str] = VALUES
) -> ClerksValues:
    """Compare a row with its account, and decide which of Clerk's values the row can take.

    An email that another row has is refused, and so is a name that a row cannot or must not hold.
    """
    differing: Changes = {}
    reasons: dict[str, str] = {}
    refused: dict[str, Refused] = {}
    if "name" in fields and comparison.name_differs(row.name, account.name):
        differing["name"] = Change(row.name, account.name)
        if why := unfit_name(account.name):
            reasons["name"] = why
            refused["name"] = Refused(
                _(
                    "The name was not copied from Clerk. {why} Use Copy to Clerk, or correct the "
                    "name in Clerk's dashboard."
                ).format(why=why),
                code="unfit_name",
            )
    if "email" in fields and comparison.email_differs(row.email, account.email):
        differing["email"] = Change(row.email, account.email)
        if other := comparison.taken_by_another(row, account.email):
            holder = Holder(account.email, user_id=other.pk, label=str(other))
            reasons["email"] = _belongs_to(holder)
            refused["email"] = email_not_copied(holder)
    return ClerksValues(differing, reasons, refused)


def _belongs_to(holder: Holder) -> str:
    return _("{email} belongs to {name} here.").format(email=holder.email, name=holder.label)


def email_not_copied(holder: Holder) -> EmailTaken:
    """Return the refusal of Clerk's email for a row, because another row has it."""
    failure = EmailTaken(
        _(
            "Not copied: {holder} If both records are of one person, delete the spare one. If they "
            "are two people, change the email of {name}, or use Copy to Clerk to give "
            "Clerk the address that is stored here."
        ).format(holder=_belongs_to(holder), name=holder.label),
        code="duplicate",
    )
    failure.holder = holder
    return failure
