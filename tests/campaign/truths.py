"""What must be true when nothing is under way any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib.admin.models import LogEntry

from sandbox import Sandbox
from tests.campaign.told import require
from users.clerk import names
from users.models import (
    BuilderUser,
    ClerkAccount,
    Invitation,
    OperationKind,
    SyncAttempt,
    WebhookDelivery,
)
from users.sync.mirror import account_changes

if TYPE_CHECKING:
    from tests.campaign.world import World

OF_THE_ACCOUNT = [account_changes.DELETED, *account_changes.RECORDED.values()]
"""What Clerk tells about an account alone is in the journal, and not in the row's history."""

FIELDS = {"update": "name", "replace_email": "email", "create": "email",
          "create_invited": "email"}  # fmt: skip
"""The operations whose values are used once, and the field that has them."""


def check(world: World) -> None:
    everything_is_resolved()
    for row in BuilderUser.objects.filter(clerk_id__isnull=False):
        require(is_same(row, world.sandbox), f"{row} ({row.email}) is not the same in Clerk")
    each_applied_change_is_logged_once()
    each_end_is_true(world)


def everything_is_resolved() -> None:
    pending = SyncAttempt.objects.filter(status="started")
    require(not pending, f"pending: {[(one.operation, one.message) for one in pending]}")
    kept = WebhookDelivery.objects.filter(processed_at=None)
    require(not kept, f"kept: {[one.error for one in kept]}")
    waiting = Invitation.objects.filter(send_after__isnull=False)
    require(not waiting, f"never sent: {[one.email for one in waiting]}")


def is_same(row: BuilderUser, sandbox: Sandbox) -> bool:
    """Whether row and account agree; of a deleted account, whether our copy says so."""
    account = sandbox.user(row.clerk_id or "")
    if account is None:
        return ClerkAccount.objects.filter(pk=row.clerk_id, deleted_at__isnull=False).exists()
    there = names.join(account["first_name"] or "", account["last_name"] or "")
    return (names.squash(row.name), row.email) == (there, _primary(account))


def _primary(account: dict[str, Any]) -> str:
    return next(
        email["email_address"]
        for email in account["email_addresses"]
        if email["id"] == account["primary_email_address_id"]
    )


def each_applied_change_is_logged_once() -> None:
    applied = SyncAttempt.objects.filter(status="applied").exclude(
        operation=OperationKind.FOLLOW, changes__has_any_keys=OF_THE_ACCOUNT
    )
    # Of attempts that asked for the same, one was carried out; the others were "saved with it".
    applied = applied.exclude(error_code="repeated")
    logged = LogEntry.objects.count()
    require(applied.count() == logged, f"{applied.count()} applied, and {logged} log entries")
    for pk in BuilderUser.objects.values_list("pk", flat=True):
        logged = LogEntry.objects.filter(object_id=str(pk)).count()
        require(logged == applied.filter(user_id=pk).count(), f"{pk}: {logged} log entries")


def each_end_is_true(world: World) -> None:
    """What is called applied was in Clerk at some time; what is called anything else was never
    there, and never in the row."""
    wanted: dict[tuple[str, str], list[SyncAttempt]] = defaultdict(list)
    for attempt in SyncAttempt.objects.filter(source="admin", operation__in=FIELDS):
        field = FIELDS[attempt.operation]
        if field in attempt.changes:
            wanted[field, attempt.changes[field][1]].append(attempt)
    for (field, value), attempts in wanted.items():
        statuses = {attempt.status for attempt in attempts}
        if "applied" in statuses:
            require(
                _was_applied(world, field, value, attempts), f"“{value}” is applied, and never was"
            )
        elif not _may_be_elsewise(world, attempts):
            require(
                not world.history.had(field, value),
                f"“{value}” has been there, and ended as {_ends(attempts)}",
            )


def _was_applied(world: World, field: str, value: str, attempts: Iterable[SyncAttempt]) -> bool:
    if any(one.clerk_id or one.details.get("account") == "create" for one in attempts):
        return world.history.clerk_had(field, value)
    return world.history.row_had(field, value)


def _may_be_elsewise(world: World, attempts: Iterable[SyncAttempt]) -> bool:
    """Whether a person discarded the change, or Clerk has the account no more."""
    return any(
        one.error_code == "taken_over"
        or (one.clerk_id and world.sandbox.user(one.clerk_id) is None)
        for one in attempts
    )


def _ends(attempts: Iterable[SyncAttempt]) -> str:
    return "; ".join(f"{one.status} ({one.message})" for one in attempts)


def nobody_overwrote_another_application(world: World) -> None:
    for row in BuilderUser.objects.filter(pk__in=world.elsewhere):
        require(
            row.builder_group_id == world.elsewhere[row.pk],
            f"{row}: the group that another application wrote is lost",
        )
