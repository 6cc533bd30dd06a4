"""Define Clerk's invitations, to a first account or to a new email.

Once an invitation is accepted, `users.sync.inbound` derives what follows from it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import NotRequired, TypedDict

from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from users.changes import Change, Changes
from users.clerk import Clerk, ClerkInvitation, ClerkUser, Deadline
from users.clerk.metadata import OUR_ID, OUR_INVITATION
from users.errors import ClerkAlreadyInvited, ClerkInvitationRevoked, ClerkNotFound, Refused
from users.models import BuilderUser, Invitation, InvitationStatus, OperationKind, SignIn
from users.sync.mirror import instance
from users.sync.mirror.comparison import normalized_email
from users.sync.operations.base import Claims, Operation, Seen, Verdict
from users.sync.operations.lifecycle import Create

EXPIRES_IN_DAYS = 30


class WantedInvitation(TypedDict):
    """The invitation that an attempt wants, as `details["invitation"]` stores it."""

    reference: str
    purpose: str
    email: str
    invited_by: int | None
    for_admins: NotRequired[bool]
    """Whether the author may manage administrators. Attempts of earlier versions lack it."""


class _Inviting(Operation):
    """Base of the changes that send an invitation.

    `details["invitation"]` holds the future row of `Invitation`: reference, purpose, email,
    invited_by and for_admins. The row is written first. Clerk's id and expiry follow when Clerk has
    answered.
    """

    _sent: ClerkInvitation | None = None

    @property
    def asks_clerk(self) -> bool:
        return True

    @property
    def _wanted(self) -> WantedInvitation:
        wanted: WantedInvitation = self.details["invitation"]
        return wanted

    @property
    def claims(self) -> Claims:
        return {"invitation": normalized_email(self._wanted["email"])}

    def write_invitation(self, row: BuilderUser) -> None:
        wanted = self._wanted
        Invitation.objects.update_or_create(
            reference=uuid.UUID(wanted["reference"]),
            defaults={
                "user": row,
                "purpose": wanted["purpose"],
                "email": wanted["email"],
                "invited_by_id": wanted["invited_by"],
                "for_admins": wanted.get("for_admins", False),
                "status": InvitationStatus.PENDING,
                "send_after": None,
                "sent_at": self.decided_at or Now(),
            },
        )

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        try:
            self._sent = clerk.create_invitation(
                email=self._wanted["email"],
                public_metadata={
                    OUR_ID: str(self.user_id),
                    OUR_INVITATION: self._wanted["reference"],
                },
                expires_in_days=EXPIRES_IN_DAYS,
                deadline=deadline,
            )
        except ClerkAlreadyInvited:
            # An earlier request of the same invitation may have arrived late.
            seen = self.look(clerk, deadline)
            if seen.verdict is Verdict.HAS_IT:
                return seen
            raise
        if self._sent.email != normalized_email(self._wanted["email"]):
            return Seen(Verdict.CANNOT_TELL)
        return Seen(Verdict.HAS_IT)

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        for invitation in clerk.list_invitations(query=self._wanted["email"], deadline=deadline):
            if invitation.public_metadata.get(OUR_INVITATION) == self._wanted["reference"]:
                self._sent = invitation
                return Seen(Verdict.HAS_IT)
        return self.not_listed(Verdict.HAS_NOT, clerk, deadline)

    def finish(self, row: BuilderUser, account: ClerkUser | None) -> None:
        """Store Clerk's id and expiry of the invitation.

        The row of a new user may exist without its invitation, if it was added in another way while
        this change was pending. Then the invitation is stored now.
        """
        if not Invitation.objects.filter(reference=self._wanted["reference"]).exists():
            self.write_invitation(row)
        if self._sent is not None:
            Invitation.objects.filter(reference=self._wanted["reference"]).update(
                clerk_invitation_id=self._sent.id, expires_at=self._sent.expires_at
            )


def wanted(
    email: str, purpose: str, *, invited_by: int | None, for_admins: bool, reference: str = ""
) -> WantedInvitation:
    """Return the content of `details["invitation"]`. `reference` is by default a random one."""
    return {
        "reference": reference or str(uuid.uuid4()),
        "purpose": purpose,
        "email": email,
        "invited_by": invited_by,
        "for_admins": for_admins,
    }


class Invite(_Inviting):
    """Invite a user whose row exists."""

    kind = OperationKind.INVITE
    changes_row = False

    @classmethod
    def of(cls, user: BuilderUser, invitation: WantedInvitation) -> Invite:
        """Build the invitation of a user. `invitation` is made by `wanted`."""
        changes: Changes = {"invitation": Change(None, invitation["email"])}
        return cls.on(user, changes, invitation=invitation)

    def written(self, row: BuilderUser) -> bool:
        """Return False: the row holds nothing of it."""
        return False

    def ownerless(self, row: BuilderUser | None) -> Mapping[str, str]:
        """Return the invitation itself if another application has deleted the row."""
        if row is not None or self._sent is None:
            return {}
        return {self._sent.id: self._sent.email}

    def write(self, row: BuilderUser) -> BuilderUser:
        """Store the invitation. Return the row as it is."""
        self.write_invitation(row)
        return row


class CreateInvited(_Inviting, Create):
    """Create a user, and invite them to a first account: both, or none if Clerk refuses."""

    kind = OperationKind.CREATE_INVITED

    @classmethod
    def of_new(cls, user: BuilderUser, invitation: WantedInvitation) -> CreateInvited:
        """Build the change from a user who is not stored yet.

        `invitation` is made by `wanted`.
        """
        operation = cls.of(user, account=SignIn.INVITE)
        operation.details["invitation"] = invitation
        return operation

    def write(self, row: BuilderUser) -> BuilderUser:
        """Insert the row, and store the invitation."""
        super().write(row)
        self.write_invitation(row)
        return row


class Revoke(Operation):
    """Revoke an invitation, so that it can no longer be accepted.

    An invitation that was not sent yet exists only here.
    """

    kind = OperationKind.REVOKE
    typed = False
    changes_row = False

    @classmethod
    def of(cls, invitation: Invitation, *, deletes_user: bool = False) -> Revoke:
        """Build the revocation of an invitation.

        `deletes_user` says that it is the first step of a deletion. Then it needs only the
        permission to delete the user.
        """
        changes: Changes = {"invitation": Change(invitation.email, None)}
        details: dict[str, object] = {
            "deletes_user": deletes_user,
            "reference": str(invitation.reference),
            "clerk_invitation_id": invitation.clerk_invitation_id,
        }
        return cls.on(invitation.user, changes, **details)

    @property
    def asks_clerk(self) -> bool:
        """Tell whether the invitation was sent, so that Clerk has it."""
        return bool(self.details["clerk_invitation_id"])

    def written(self, row: BuilderUser) -> bool:
        """Return False: the row holds nothing of it."""
        return False

    def write(self, row: BuilderUser) -> BuilderUser:
        """Mark the invitation as revoked. Return the row as it is."""
        Invitation.objects.filter(reference=self.details["reference"]).update(
            status=InvitationStatus.REVOKED,
            send_after=None,
            revoke_due=False,
            updated_at=timezone.now(),
        )
        return row

    @property
    def claims(self) -> Claims:
        """Return the revocation of this one invitation."""
        return {f"invitation {self.details['clerk_invitation_id']}": "revoked"}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Revoke the invitation in Clerk. If it is gone or revoked already, that counts as done.

        Raises `Refused` for a 404 that may be of another instance. Passed on, it would say that the
        account of the user is not found.
        """
        try:
            revoked = clerk.revoke_invitation(
                self.details["clerk_invitation_id"], deadline=deadline
            )
        except ClerkNotFound as error:
            if not instance.is_ours(clerk, deadline):
                raise Refused(
                    _(
                        "Clerk does not have this invitation, and it is not certain that "
                        "CLERK_SECRET_KEY belongs to the Clerk instance that has our users. Is "
                        "this the right instance? Nothing was changed. An engineer finds out with "
                        "clerk_check."
                    ),
                    code=error.code,
                    trace_id=error.trace_id,
                ) from None
        except ClerkInvitationRevoked:
            pass
        else:
            if revoked.status != "revoked":
                return Seen(Verdict.HAS_NOT)
        return Seen(Verdict.HAS_IT)

    def judge(self, account: ClerkUser) -> Verdict:
        """Return `CANNOT_TELL`: an account does not show its invitations."""
        return Verdict.CANNOT_TELL

    def look(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Search the invitation among Clerk's revoked ones."""
        wanted = self.details["clerk_invitation_id"]
        found = clerk.list_invitations(query=wanted, status="revoked", deadline=deadline)
        if any(invitation.id == wanted for invitation in found):
            return Seen(Verdict.HAS_IT)
        return self.not_listed(Verdict.HAS_NOT, clerk, deadline)
