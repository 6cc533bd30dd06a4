"""Create, save and delete users: in Clerk first, then here."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TypedDict

from django.conf import settings
from django.utils.translation import gettext as _

from users.changes import Change, Changes
from users.clerk import Deadline, clerk
from users.errors import (
    ChangeFailed,
    Conflict,
    EmailGuarded,
    InvitationAccepted,
    NothingToChange,
    NotKnown,
    Refused,
)
from users.models import BuilderGroup, BuilderUser, BulkRun, Invitation, SignIn, Source
from users.sync import messages
from users.sync.access import permissions
from users.sync.actors import Actor
from users.sync.display import joined
from users.sync.mirror.sign_in_address import sign_in_address
from users.sync.operations import Create, CreateAccount, Delete, Edit
from users.sync.outbound import conflicts, pending, recovery, repeats
from users.sync.outbound.dual_write import Gateway, Saved, dual_write, refuse
from users.sync.services import invitations
from users.version import UnreadableToken, base_of, differences, same, value_of, values_of

EDITABLE = ("name", "email", "role", "internal_role", "builder_group")


def save_user(
    user: BuilderUser,
    *,
    actor: Actor,
    changes: dict[str, object],
    version: str | None = None,
    source: Source = Source.ADMIN,
    token: uuid.UUID | None = None,
) -> Saved:
    """Save the wanted values of fields, here and in Clerk.

    `changes` maps fields of `EDITABLE` to their wanted values; for the group, this is a
    `BuilderGroup` or None. Fields that `user` already holds as wanted are left out. `version` is
    the edit token of the form. Without it, the changed fields must still hold the values that
    `user` was loaded with.

    Raises `EmailGuarded` for a new email of a linked user, `Conflict` for an edit token that cannot
    be read, and the `ChangeFailed` family of `dual_write`.
    """
    wanted = {field: _stored(changes[field]) for field in EDITABLE if field in changes}
    try:
        base = _base(user, version, wanted)
    except Conflict as conflict:
        operation = Edit.on(user, _changes(values_of(user), wanted))
        raise refuse(operation, conflict, actor=actor, source=source) from None
    if differences(user, base):
        # The row has changed since the form was opened, perhaps by the first POST of this form.
        first = repeats.attempt_of(token)
        if first and repeats.is_repeated(first, Edit.on(user, _changes(base, wanted))):
            return repeats.outcome_of(first, Deadline(settings.CLERK_EDIT_DEADLINE))
        base |= repeats.saved_by(first, user)
    # A value that is stored already is neither a change nor a conflict.
    base |= {
        field: value_of(user, field)
        for field, after in wanted.items()
        if same(field, value_of(user, field), after)
    }
    recorded = _changes(base, wanted)
    if not recorded:
        return Saved(user)
    operation = Edit.on(user, recorded)
    permissions.authorize(operation, user, actor=actor, source=source)
    if "email" in recorded and user.linked:
        raise refuse(operation, _email_guarded(user), actor=actor, source=source)
    try:
        return dual_write(
            operation,
            user,
            actor=actor,
            source=source,
            base=base if version is not None else None,
            token=token,
        )
    except NothingToChange:
        return Saved(user)


def _changes(base: dict[str, object], wanted: dict[str, object]) -> Changes:
    return {
        field: Change(base[field], after)
        for field, after in wanted.items()
        if not same(field, base[field], after)
    }


def _email_guarded(user: BuilderUser) -> EmailGuarded:
    signs_in = sign_in_address(user).sentence
    return EmailGuarded(
        _("Nothing was saved, here or in Clerk."),
        fields={
            "email": [signs_in + " " + _("Changing it requires an invitation: use Change email.")],
        },
    )


def _base(user: BuilderUser, version: str | None, wanted: dict[str, object]) -> dict[str, object]:
    """Return the values that the change starts from.

    Raises `Conflict` if the edit token cannot be read and a wanted value is not stored yet.
    """
    if version is None:
        return values_of(user)
    try:
        return base_of(version, user)
    except UnreadableToken:
        conflicts.check_without_base(user, wanted)
        return values_of(user)


def create_user(
    user: BuilderUser,
    *,
    actor: Actor,
    account: SignIn = SignIn.CREATE,
    source: Source = Source.ADMIN,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    gateway: Gateway = clerk,
) -> Saved:
    """Store a new user; if `account` is `CREATE`, create its Clerk account first.

    While an earlier create of the same email is pending, the id of its row is kept. So the account
    is recognized, whichever request arrives. Raises the `ChangeFailed` family of `dual_write`.
    """
    if earlier := pending.create_of(user.email):
        user.pk = earlier.user_id
    operation = Create.of(user, account=account)
    return dual_write(
        operation, user, actor=actor, source=source, run=run, token=token, gateway=gateway
    )


def create_account(user: BuilderUser, *, actor: Actor, token: uuid.UUID | None = None) -> Saved:
    """Create the Clerk account of a user whose row has none. No mail is sent.

    Raises the `ChangeFailed` family.
    """
    operation = CreateAccount.of_row(user)
    permissions.authorize(operation, user, actor=actor, source=Source.ADMIN)
    if first := repeats.first_of(token, operation):
        return repeats.outcome_of(first, Deadline(settings.CLERK_EDIT_DEADLINE))
    if user.clerk_id is not None:
        taken = Refused(
            _("This user has a Clerk id already. Unlink the user first."), code="linked"
        )
        raise refuse(operation, taken, actor=actor, source=Source.ADMIN)
    return dual_write(operation, user, actor=actor, source=Source.ADMIN, token=token)


class Origin(TypedDict):
    """Who makes a change, from where, in which run, and by which client."""

    actor: Actor
    source: Source
    run: BulkRun | None
    gateway: Gateway


def delete_user(
    user: BuilderUser,
    *,
    actor: Actor,
    source: Source = Source.ADMIN,
    run: BulkRun | None = None,
    token: uuid.UUID | None = None,
    gateway: Gateway = clerk,
) -> Saved:
    """Delete a user in Clerk, then here.

    Open invitations are revoked first: if one were accepted later, it would create an account
    without a user. Raises the `ChangeFailed` family; the message says whether the invitation is
    revoked.
    """
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    origin: Origin = {"actor": actor, "source": source, "run": run, "gateway": gateway}
    operation = Delete.of(user)
    permissions.authorize(operation, user, actor=actor, source=source)
    if pending.in_the_way(operation, pending.in_flight(user.pk)):
        # It may be an invitation. If that has arrived, it is open, and is revoked below.
        recovery.recover_user(user.pk, deadline=deadline)
    open_ones = invitations.to_revoke_of(user)
    revoked: list[str] = []
    try:
        for invitation in open_ones:
            if _revoke_first(invitation, origin, token, deadline):
                revoked.append(invitation.email)
        if open_ones:
            # An accepted invitation may have linked an account. Or another person deleted the user.
            user = BuilderUser.objects.filter(pk=user.pk).first() or user
        deleted = dual_write(Delete.of(user), user, token=token, deadline=deadline, **origin)
        return replace(deleted, warnings=(_revoked_words(revoked),)) if revoked else deleted
    except ChangeFailed as failure:
        if revoked:
            ending = messages.part_that_failed(
                _("The user was not deleted: {why}"),
                _("It is not known yet whether the user was deleted: {why}"),
                failure,
            )
            failure.message = f"{_revoked_words(revoked)} {ending}"
        raise


def _revoked_words(emails: list[str]) -> str:
    return _("The open invitation to {emails} was revoked.").format(emails=joined(emails))


def _revoke_first(
    invitation: Invitation,
    origin: Origin,
    token: uuid.UUID | None,
    deadline: Deadline,
) -> bool:
    """Revoke an open invitation before its user is deleted.

    Returns False if it was accepted already: nothing is left to revoke, and the deletion goes on.
    If Clerk does not confirm the revocation, the deletion waits for it, as for any other earlier
    change.
    """
    try:
        invitations.revoke(
            invitation,
            token=repeats.part_of(token, f"revoke {invitation.pk}"),
            deadline=deadline,
            deletes_user=True,
            **origin,
        )
    except InvitationAccepted:
        return False
    except NotKnown:
        pending_ones = [one for one in pending.in_flight(invitation.user_id) if one.pending]
        if not pending_ones:
            raise
        raise messages.must_wait(pending_ones[-1]) from None
    return True


def _stored(value: object) -> object:
    """Return a wanted value in the form that JSON and the column hold: a group as its id."""
    if value is None or isinstance(value, str):
        return value
    assert isinstance(value, BuilderGroup)
    return str(value.pk)
