"""Change accounts and rows for people who are signed in at the front end.

People change their own account and row; administrators also change those of others. Clerk proves
who a person is (`users.clerk.session_tokens`). What they may do is decided here, by our row and by
our mirror of their account, never by data that they send.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.changes import Change
from users.clerk import Deadline, names
from users.clerk.metadata import RESERVED
from users.errors import (
    Busy,
    ChangeFailed,
    Gone,
    NotAllowed,
    NothingToChange,
    Refused,
)
from users.models import (
    Agreement,
    BuilderGroup,
    BuilderUser,
    ClerkAccount,
    InternalRole,
    LinkedBy,
    Role,
    Source,
)
from users.sync import messages
from users.sync.access.permissions import NO_PERMISSION
from users.sync.actors import Person
from users.sync.inbound import reconcile
from users.sync.messages import INVALID
from users.sync.mirror import comparison, store
from users.sync.operations import Edit, MergeMetadata, Operation, PushName
from users.sync.outbound.dual_write import Saved, dual_write
from users.sync.services import accounts, users
from users.validation import clean_email, clean_name
from users.version import same, value_of

NO_ROW = gettext_lazy("User not found in database")


@dataclass(frozen=True)
class Caller:
    """The person who makes the request, as Clerk's token identifies them."""

    clerk_id: str

    @cached_property
    def user(self) -> BuilderUser | None:
        """Return the row that is linked to the caller's account, None if there is none."""
        return _row_of(self.clerk_id)

    @cached_property
    def account(self) -> ClerkAccount | None:
        """Return the caller's account from our mirror, None if it is not known."""
        return ClerkAccount.objects.filter(pk=self.clerk_id).first()

    @property
    def person(self) -> Person:
        """Return the author that the journal records."""
        return Person(self.clerk_id, str(self.user or self.clerk_id))

    def require_active(self) -> None:
        """Check that the caller has a row, and an account that is neither banned nor gone.

        A token stays valid for up to a minute after a ban or a deletion. Raises `NotAllowed`.
        """
        if self.user is None or not self._has_living_account:
            raise NotAllowed(str(NO_PERMISSION))

    def require_administrator(self) -> None:
        """Check that the caller is an active internal Administrator.

        Their account must also be certain to belong to their row. Raises `NotAllowed`.
        """
        self.require_active()
        assert self.user is not None
        is_one = (
            self.user.role == Role.ADMIN
            and self.user.internal_role == InternalRole.ADMINISTRATOR
            and self._is_surely(self.user)
        )
        if not is_one:
            raise NotAllowed(str(NO_PERMISSION))

    @property
    def _has_living_account(self) -> bool:
        known = self.account
        return known is not None and not (known.banned or known.deleted_at or known.not_found_at)

    def _is_surely(self, user: BuilderUser) -> bool:
        """Tell whether the account is certain to belong to the row.

        It is if the account holds the row's address, verified, or if staff linked or invited the
        person. The earlier application linked accounts by addresses that nobody had verified.
        """
        known = self.account
        assert known is not None
        if known.email_verified and comparison.same_email(known.email, user.email):
            return True
        by_staff = (LinkedBy.STAFF, LinkedBy.INVITATION)
        decided = Agreement.objects.filter(pk=user.pk, clerk_id=self.clerk_id)
        return decided.filter(linked_by__in=by_staff).exists()


@dataclass(frozen=True)
class ClerkNames:
    """First and last name of an account, as Clerk showed them last."""

    first: str
    last: str


# --- A Clerk account -----------------------------------------------------------------------------


def update_account(
    caller: Caller, clerk_id: str, *, given: Mapping[str, str], metadata: Mapping[str, object]
) -> ClerkNames:
    """Change the names of an account and its row, and merge into its public metadata.

    `given` holds `first_name`, `last_name` or both; a missing one stays as it is. If the full name
    changes, Clerk gets the two names as they are given. Other white space, or another split of the
    same full name, is not a change. The names are sent first: if Clerk refuses them, no metadata is
    sent.

    Returns the names that the account has afterwards. Raises the `ChangeFailed` family.
    """
    if metadata or clerk_id != caller.clerk_id:
        caller.require_administrator()
    else:
        caller.require_active()
    if reserved := sorted(RESERVED & metadata.keys()):
        raise _invalid(
            _("{reserved} is reserved for this application.").format(reserved=reserved[0])
        )
    user = _row_of(clerk_id)
    if user is None:
        raise Gone(str(NO_ROW))
    renamed = bool(given) and _rename(user, given, caller.person)
    if metadata:
        _merge(user, metadata, caller.person, renamed=renamed)
    return _names_of(user)


def _rename(user: BuilderUser, given: Mapping[str, str], person: Person) -> bool:
    """Change the name in the row and in Clerk, or in Clerk alone if the row has it already.

    Returns whether anything was changed.
    """
    known = _names_of(user)
    first, last = given.get("first_name", known.first), given.get("last_name", known.last)
    name = _cleaned(clean_name, f"{first} {last}")
    split = list(map(names.squash, (first, last)))
    theirs = names.join(known.first, known.last)
    operation: Operation
    if not same("name", user.name, name):
        operation = Edit.on(user, {"name": Change(user.name, name)}, split=split)
    elif not same("name", theirs, name):
        operation = PushName.on(user, {"name": Change(theirs, user.name)}, split=split)
    else:
        return False
    try:
        dual_write(operation, user, actor=person, source=Source.API)
    except NothingToChange:
        return False
    return True


def _merge(
    user: BuilderUser, metadata: Mapping[str, object], person: Person, *, renamed: bool
) -> None:
    try:
        operation = MergeMetadata.into(user, metadata)
        dual_write(operation, user, actor=person, source=Source.API)
    except ChangeFailed as failure:
        if renamed:
            merged = messages.part_that_failed(
                _("The metadata was not saved: {why}"),
                _("It is not known yet whether the metadata was saved: {why}"),
                failure,
            )
            failure.message = _("The name was saved.") + f" {merged}"
        raise


def _names_of(user: BuilderUser) -> ClerkNames:
    known = ClerkAccount.objects.filter(pk=user.account_id).first()
    if known is None or not (known.first_name or known.last_name):
        return ClerkNames(*names.split(user.name))
    return ClerkNames(known.first_name, known.last_name)


# --- A row ---------------------------------------------------------------------------------------


def update_user(caller: Caller, user_id: uuid.UUID, *, values: Mapping[str, str | None]) -> Saved:
    """Store the wanted `name`, `email` and `builder_group` of a row.

    The group is given by its id, None for no group. Values that the row already holds are ignored,
    so that everybody may send their own values back.

    Raises the `ChangeFailed` family: `EmailGuarded` for a new email of a user who has an account.
    """
    if caller.user is None or caller.user.pk != user_id:
        caller.require_administrator()
    else:
        caller.require_active()
    user = BuilderUser.objects.filter(pk=user_id).first()
    if user is None:
        raise Gone(str(NO_ROW))
    wanted = {
        field: value
        for field, value in values.items()
        if not same(field, value_of(user, field), value)
    }
    if wanted.keys() - {"name"}:
        caller.require_administrator()
    changes = {field: _checked(field, value) for field, value in wanted.items()}
    return users.save_user(user, actor=caller.person, changes=changes, source=Source.API)


def _checked(field: str, value: str | None) -> object:
    if field == "name":
        return _cleaned(clean_name, value or "")
    if field == "email":
        return _cleaned(clean_email, value or "")
    return _group(value) if value else None


def _group(group_id: str) -> BuilderGroup:
    try:
        return BuilderGroup.objects.get(pk=group_id)
    except (BuilderGroup.DoesNotExist, ValidationError):
        raise _invalid(_("This group does not exist.")) from None


# --- The person themselves -----------------------------------------------------------------------


def sync(caller: Caller) -> BuilderUser:
    """Read the caller's account from Clerk, and return their row as it is afterwards.

    Clerk's answer has the same effects as an event: it may link the account to a row, or change the
    name of the row. Raises `Gone` if the account has no row, `Busy` while that row is being saved,
    `NotAllowed` for a banned account, and the rest of the `ChangeFailed` family if Clerk does not
    answer.
    """
    shown = accounts.read(caller.clerk_id, Deadline(settings.CLERK_EDIT_DEADLINE))
    with transaction.atomic():
        due = store.keep(shown, source=Source.API).due
        # Another application may have written the row since then. No event reports that.
        if due or _has_a_free_row(shown.email, shown.id):
            reconcile.reconcile(accounts=[shown.id], source=Source.API)
    if shown.banned:
        raise NotAllowed(str(NO_PERMISSION))
    user = _row_of(shown.id)
    if user is not None:
        return user
    if ClerkAccount.objects.filter(pk=shown.id, reconcile_due=True).exists():
        raise Busy(_("Your user is being saved by someone else right now. Try again in a moment."))
    raise Gone(_("No user here belongs to this sign-in. Ask an administrator."))


def _has_a_free_row(email: str, clerk_id: str) -> bool:
    if not email or BuilderUser.objects.filter(clerk_id=clerk_id).exists():
        return False
    return comparison.with_email(BuilderUser.objects.not_linked(), email).exists()


def _row_of(clerk_id: str) -> BuilderUser | None:
    return BuilderUser.objects.linked().filter(clerk_id=clerk_id).select_related("account").first()


def _cleaned(clean: Callable[[str], object], value: str) -> str:
    try:
        return str(clean(value))
    except ValidationError as error:
        raise _invalid(" ".join(error.messages)) from None


def _invalid(text: str) -> Refused:
    return Refused(f"{INVALID} {text} " + _("Nothing was saved."), code="invalid")
