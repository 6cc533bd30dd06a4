"""Decide who may make which change. No other module decides this.

Services call `authorize` before they try a change, and `require` again under the row's lock. Pages
call `may` before they show a button or a field, and `missing` to explain why it is absent.

Changes of events, scheduled tasks and commands are always allowed, and so are changes of staff
pages without an actor: a person who runs a command on the server can write to the tables anyway.
People at the front end have no permissions. `services.front_end` decides by their own row, within
the limits that `require` sets for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import cast

from django.contrib.auth.models import AnonymousUser, User
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from users.errors import NotAllowed
from users.models import CREATES, BuilderUser, OperationKind, Role, SignIn, Source, Status
from users.sync.actors import Actor
from users.sync.operations import Operation
from users.sync.outbound import journal

CREATE_ACCOUNT, CHANGE_ROLE, MANAGE_ADMINS = "create_account", "change_role", "manage_admins"

NEEDED: Mapping[OperationKind, tuple[str, ...]] = {
    OperationKind.CREATE: ("add_builderuser",),
    OperationKind.CREATE_INVITED: ("add_builderuser", "invite"),
    OperationKind.UPDATE: ("change_builderuser",),
    OperationKind.DELETE: ("delete_builderuser",),
    OperationKind.PUSH_NAME: ("change_builderuser",),
    OperationKind.PUSH_EMAIL: ("change_builderuser", "replace_email"),
    OperationKind.REPLACE_EMAIL: ("replace_email",),
    OperationKind.SET_PASSWORD: ("set_password",),
    OperationKind.BAN: ("ban",),
    OperationKind.UNBAN: ("ban",),
    OperationKind.UNLOCK: ("unlock",),
    OperationKind.RESET_MFA: ("reset_mfa",),
    OperationKind.SIGN_OUT: ("sign_out",),
    OperationKind.END_SESSION: ("sign_out",),
    OperationKind.CREATE_ACCOUNT: (CREATE_ACCOUNT,),
    OperationKind.LINK: ("link",),
    OperationKind.UNLINK: ("link",),
    OperationKind.INVITE: ("invite",),
    OperationKind.REVOKE: ("invite",),
    OperationKind.FOLLOW: ("change_builderuser",),
    OperationKind.REFRESH: ("change_builderuser",),
    OperationKind.MERGE_METADATA: (
        "change_builderuser",
        CHANGE_ROLE,
    ),  # other applications read roles from the metadata
}
"""The permissions of the app `users` that each kind of change needs, for every user."""

FREE_OF_ADMINS = frozenset(
    {
        OperationKind.PUSH_NAME,
        OperationKind.UNLOCK,
        OperationKind.SIGN_OUT,
        OperationKind.END_SESSION,
        OperationKind.REFRESH,
    }
)
"""Changes of administrators that need no `manage_admins`: they let nobody else sign in."""
FREE_FIELDS = frozenset({"name", "builder_group"})
"""Fields of an administrator that may be edited without `manage_admins`."""
EDITS = CREATES | {OperationKind.UPDATE, OperationKind.FOLLOW}
ROLE_FIELDS = ("role", "internal_role")
FREE_AT_THE_FRONT_END = frozenset(
    {OperationKind.UPDATE, OperationKind.PUSH_NAME, OperationKind.MERGE_METADATA}
)

SYSTEM = frozenset({Source.COMMAND, Source.TASK, Source.WEBHOOK})
NO_PERMISSION = _("You don't have permission for this. Ask an administrator.")
NOTHING: Mapping[str, object] = MappingProxyType({})


def may(
    actor: Actor,
    kind: OperationKind,
    user: BuilderUser | None = None,
    *,
    wanted: Mapping[str, object] = NOTHING,
    account: str = "",
) -> bool:
    """Tell whether a person may make a change of a user.

    `wanted` maps fields to their new values. `account` is the `SignIn` of a new user. Without
    `user` the answer is about users who are not administrators.
    """
    return not missing(actor, kind, user, wanted=wanted, account=account)


def missing(
    actor: Actor,
    kind: OperationKind,
    user: BuilderUser | None = None,
    *,
    wanted: Mapping[str, object] = NOTHING,
    account: str = "",
) -> list[str]:
    """List the codenames of the permissions that a person lacks for a change of a user.

    The arguments are those of `may`. Nothing is missing without an actor.
    """
    if actor is None:
        return []
    holds = cast("User | AnonymousUser", actor)
    needed = _needed(kind, user, wanted, account)
    return [codename for codename in needed if not holds.has_perm(f"users.{codename}")]


def _needed(
    kind: OperationKind, user: BuilderUser | None, wanted: Mapping[str, object], account: str
) -> list[str]:
    needed = list(NEEDED[kind])
    if kind in CREATES and account == SignIn.CREATE:
        needed.append(CREATE_ACCOUNT)
    if kind == OperationKind.UPDATE and not wanted.keys().isdisjoint(ROLE_FIELDS):
        needed.append(CHANGE_ROLE)
    if _needs_manage_admins(kind, user, wanted):
        needed.append(MANAGE_ADMINS)
    return needed


def _needs_manage_admins(
    kind: OperationKind, user: BuilderUser | None, wanted: Mapping[str, object]
) -> bool:
    if wanted.get("role") == Role.ADMIN or wanted.get("internal_role"):
        return True
    if user is None or user.role != Role.ADMIN or kind in FREE_OF_ADMINS:
        return False
    return kind not in EDITS or not wanted.keys() <= FREE_FIELDS


def explain(lacking: Collection[str]) -> str:
    """Name the missing permissions, and say who can give them; "" if none is missing."""
    if not lacking:
        return ""
    named = ", ".join(f"“{label_of(codename)}”" for codename in lacking)
    missing_ones = ngettext(
        "Missing permission: {names}.", "Missing permissions: {names}.", len(lacking)
    ).format(names=named)
    return f"{NO_PERMISSION} {missing_ones}"


def label_of(codename: str) -> str:
    """Return the name of a permission as the admin page of a group shows it."""
    own = dict(BuilderUser._meta.permissions)
    action, _, model = codename.partition("_")
    return own.get(codename) or f"Can {action} {model.replace('builderuser', 'builder user')}"


# --- For services ------------------------------------------------------------------------------


def authorize(operation: Operation, user: BuilderUser, *, actor: Actor, source: Source) -> None:
    """Refuse a change that the actor may not make, and record the refusal.

    Raises `NotAllowed`.
    """
    try:
        require(operation, user, actor=actor, source=source)
    except NotAllowed as failure:
        journal.record(
            operation, actor=actor, source=source, status=Status.REFUSED, failure=failure
        )
        raise


def require(operation: Operation, row: BuilderUser, *, actor: Actor, source: Source) -> None:
    """Refuse a change that the actor may not make, without recording it.

    `row` is the row as it is stored now. Under its lock, nobody can make it an administrator
    meanwhile. Raises `NotAllowed`.
    """
    if source in SYSTEM:
        return
    kind, wanted = _kind_of(operation), _wanted_by(operation)
    if source == Source.API:
        edits_admin = kind == OperationKind.UPDATE and _needs_manage_admins(kind, row, wanted)
        edits_role = not wanted.keys().isdisjoint(ROLE_FIELDS)
        if kind not in FREE_AT_THE_FRONT_END or edits_admin or edits_role:
            raise NotAllowed(f"{NO_PERMISSION} " + gettext("Nothing was changed."))
        return
    if lacking := _missing_for(operation, row, actor):
        raise _not_allowed(lacking, _fields_at_fault(kind, lacking, wanted))


def manages_admins(actor: Actor, source: Source) -> bool:
    """Tell whether an author may make changes of administrators that let somebody sign in."""
    if source in SYSTEM or actor is None:
        return True
    return cast("User | AnonymousUser", actor).has_perm(f"users.{MANAGE_ADMINS}")


def missing_to_discard(
    pending_ones: Iterable[Operation], row: BuilderUser, *, actor: Actor
) -> list[str]:
    """List the permissions that a person lacks to discard the pending changes of a user.

    Discarding a change needs the same permissions as making it, as it may be another person's.
    """
    return list(
        dict.fromkeys(name for one in pending_ones for name in _missing_for(one, row, actor))
    )


def require_to_discard(
    pending_ones: Iterable[Operation], row: BuilderUser, *, actor: Actor, source: Source
) -> None:
    """Refuse unless the actor may discard all of these changes.

    Raises `NotAllowed`.
    """
    if source not in SYSTEM and (lacking := missing_to_discard(pending_ones, row, actor=actor)):
        raise _not_allowed(lacking, [])


def _missing_for(operation: Operation, row: BuilderUser, actor: Actor) -> list[str]:
    account = str(operation.details.get("account", ""))
    kind, wanted = _kind_of(operation), _wanted_by(operation)
    return missing(actor, kind, row, wanted=wanted, account=account)


def _kind_of(operation: Operation) -> OperationKind:
    return OperationKind.DELETE if operation.details.get("deletes_user") else operation.kind


def _wanted_by(operation: Operation) -> dict[str, object]:
    return {field: change.after for field, change in operation.changes.items()}


def _not_allowed(lacking: list[str], fields: list[str]) -> NotAllowed:
    why = explain(lacking)
    if not fields:
        return NotAllowed(f"{why} " + gettext("Nothing was changed."))
    return NotAllowed(
        gettext("Nothing was saved, here or in Clerk."), fields={field: [why] for field in fields}
    )


def _fields_at_fault(
    kind: OperationKind, lacking: list[str], wanted: Mapping[str, object]
) -> list[str]:
    """List the fields of the form that the missing permissions concern."""
    if kind in CREATES:
        about = {CREATE_ACCOUNT: "account", "invite": "account", MANAGE_ADMINS: "role"}
        return list(dict.fromkeys(about[one] for one in lacking if one in about))
    if kind != OperationKind.UPDATE or lacking == list(NEEDED[kind]):
        return []
    fields = ROLE_FIELDS if MANAGE_ADMINS not in lacking else (*ROLE_FIELDS, "email")
    return [field for field in fields if field in wanted]
