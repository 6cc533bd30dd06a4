"""What staff can do to many users from the list. The commands make the same plans."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from users.errors import BulkRefused
from users.models import BuilderUser, BulkRun, OperationKind
from users.sync.access import permissions
from users.sync.access.permissions import NOTHING
from users.sync.actors import Actor
from users.sync.bulk import actions, edits
from users.sync.bulk.allowed import only_allowed
from users.sync.bulk.choosing import FIELDS, plan_pull, plan_push
from users.sync.bulk.plan import Plan

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

MOST = 20_000
"""The most users of one plan from the list: a request makes it, and holds it in memory."""


def changes(count: int) -> str:
    """Say how many changes a plan has."""
    return ngettext("{count} change", "{count} changes", count).format(count=count)


def _accounts(count: int) -> str:
    return ngettext("{count} account", "{count} accounts", count).format(count=count)


@dataclass(frozen=True)
class ListAction:
    """One thing to do to many users.

    `effect` says what it does to the people, and `field` is set if it needs a value of that field.
    `counted` says how many rows its plan has.
    """

    label: StrOrPromise
    effect: StrOrPromise
    kind: OperationKind
    plan: Callable[..., Plan]
    field: str = ""
    danger: bool = False
    counted: Callable[[int], str] = changes

    def may(self, actor: Actor) -> bool:
        """Tell whether a person may do this to users who are not administrators."""
        wanted = {self.field: None} if self.field else NOTHING
        return permissions.may(actor, self.kind, wanted=wanted)


def _edit(field: str) -> Callable[..., Plan]:
    return partial(edits.plan_edit, field=field)


def _action(name: str) -> Callable[..., Plan]:
    return partial(_plan_action, name)


def _plan_action(name: str, users: QuerySet[BuilderUser]) -> Plan:
    return actions.plan_action(name, users)


LIST_ACTIONS: Mapping[str, ListAction] = {
    "set_group": ListAction(
        _("Set group"),
        _("They belong to this group from then on. Their sign-in stays as it is."),
        OperationKind.UPDATE,
        _edit("builder_group"),
        "builder_group",
    ),
    "set_role": ListAction(
        _("Set role"),
        _("They have this role from then on. Their sign-in stays as it is."),
        OperationKind.UPDATE,
        _edit("role"),
        "role",
    ),
    "invite": ListAction(
        _("Invite"),
        _(
            "Clerk mails an invitation to each of them. Who accepts it makes an account, which is "
            "connected to their record here."
        ),
        OperationKind.INVITE,
        _action("invite"),
    ),
    "copy_to": ListAction(
        _("Copy names to Clerk"),
        _("Where the names differ, Clerk takes the name that is stored here."),
        OperationKind.PUSH_NAME,
        partial(plan_push, fields=["name"]),
    ),
    "copy_from": ListAction(
        _("Copy names and emails from Clerk"),
        _("Where they differ, the record here takes the name and email that Clerk has."),
        OperationKind.FOLLOW,
        partial(plan_pull, fields=FIELDS),
    ),
    "refresh": ListAction(
        _("Refresh"),
        _(
            "Their accounts are read from Clerk again. Nothing is changed in Clerk. What people "
            "changed there is copied to their records here."
        ),
        OperationKind.REFRESH,
        _action("refresh"),
        counted=_accounts,
    ),
    "ban": ListAction(
        _("Ban"),
        _(
            "Every session of these people ends, and they cannot sign in until somebody unbans "
            "them. Their records here stay as they are."
        ),
        OperationKind.BAN,
        _action("ban"),
        danger=True,
    ),
    "unban": ListAction(
        _("Unban"),
        _("These people can sign in again, as before the ban."),
        OperationKind.UNBAN,
        _action("unban"),
    ),
    "delete": ListAction(
        _("Delete"),
        _(
            "These people are deleted one by one, in Clerk first and then here. They can no longer "
            "sign in. This cannot be undone."
        ),
        OperationKind.DELETE,
        _action("delete"),
        danger=True,
    ),
}


def title_of(run: BulkRun) -> str:
    """Return what staff call a run of the pages: its action, or the name of its spreadsheet."""
    action = LIST_ACTIONS.get(run.options.get("list_action", ""))
    return str(action.label if action else run.options.get("file") or run.command)


def offered_to(actor: Actor) -> dict[str, ListAction]:
    """Return the actions that a person may use, by their names."""
    return {name: action for name, action in LIST_ACTIONS.items() if action.may(actor)}


def plan_list_action(
    name: str, user_ids: Collection[uuid.UUID], *, actor: Actor, value: object = None
) -> Plan:
    """Plan an action for these users, as far as the actor may do it.

    `value` is the value for the field of the action, in the form that JSON holds. Raises
    `BulkRefused` for too many users.
    """
    if len(user_ids) > MOST:
        raise BulkRefused(
            f"Choose at most {MOST:,} people at once. Nothing was changed. For more, ask an "
            "engineer: the command line has no such limit."
        )
    action = LIST_ACTIONS[name]
    users = BuilderUser.objects.select_related("account").filter(pk__in=user_ids).order_by("pk")
    plan = action.plan(users, value=value) if action.field else action.plan(users)
    return only_allowed(plan, actor=actor)
