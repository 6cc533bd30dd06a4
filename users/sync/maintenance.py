"""What is done in the background, every minute: finishing what was left unfinished.

Everything is found in the tables, so nothing is lost when nobody runs it for a while, and two
copies at once do no harm.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.utils import timezone

from users.clerk import Deadline, clerk
from users.errors import ChangeFailed, ClerkError
from users.models import (
    BuilderUser,
    BulkRun,
    ClerkAccount,
    InvitationStatus,
    OperationKind,
    Source,
    Status,
    SyncAttempt,
)
from users.sync.bulk import results
from users.sync.bulk.run import follow_killed
from users.sync.inbound import deliveries
from users.sync.inbound.deliveries import Received
from users.sync.inbound.reconcile import reconcile_due
from users.sync.mirror import instance
from users.sync.operations import Ban, PushName
from users.sync.outbound import recovery
from users.sync.outbound.dual_write import dual_write
from users.sync.outbound.recovery import RecoveryResult
from users.sync.services import invitations

AGAIN_AFTER = timedelta(hours=1)


@dataclass
class Report:
    """What was found, and what became of it; `notes` are sentences for people."""

    attempts: list[RecoveryResult] = field(default_factory=list)
    events: list[Received] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """How many are still unfinished."""
        return sum(not attempt.resolved for attempt in self.attempts) + sum(
            not event.done for event in self.events
        )


def run() -> Report:
    """Do what is due.

    1. Learn which Clerk instance is ours. 2. Resolve pending attempts; the rows and result files
    of bulk runs follow, those of killed runs too. 3. Reconcile what waited for those, and try
    kept events again. 4. Send, check and expire invitations. 5. Ban accounts that were replaced,
    and give a new account its name.
    """
    remember_instance()
    resolved = list(recovery.recover_all())
    for bulk_run in BulkRun.objects.filter(pk__in={one.attempt.run_id for one in resolved}):
        results.follow(bulk_run)
    follow_killed()
    reconcile_due()
    return Report(
        attempts=resolved,
        events=deliveries.retry(),
        notes=[*invitations.tend(), *ban_replaced(), *name_the_nameless()],
    )


def remember_instance() -> None:
    """Learn once which Clerk instance is ours, so that a 404 can be believed later."""
    if instance.remembered() is None:
        with suppress(ClerkError):
            instance.is_ours(clerk(), Deadline(settings.CLERK_EDIT_DEADLINE))


def ban_replaced() -> list[str]:
    """After an accepted change of email the account before it must not sign in any more. Clerk
    is asked here, as an event asks nobody."""
    notes = []
    tried = _tried_lately(OperationKind.BAN, user=OuterRef("replaced_for"), clerk_id=OuterRef("pk"))
    due = ClerkAccount.objects.filter(~tried, ban_due=True).select_related("replaced_for")
    for account in due:
        user = account.replaced_for
        if account.banned or account.deleted_at or user is None:
            ClerkAccount.objects.filter(pk=account.pk).update(ban_due=False)
            continue
        try:
            dual_write(Ban.of_replaced(user, account), user, actor=None, source=Source.TASK)
        except ChangeFailed as failure:
            note = f"It was replaced, but could not be banned: {failure.full_message}"
            ClerkAccount.objects.filter(pk=account.pk).update(note=note)
            notes.append(f"{account}: {note}")
        else:
            notes.append(f"{account}: banned, as {user} has a new account.")
            notes += _who_signs_in_with(account)
    return notes


def _who_signs_in_with(account: ClerkAccount) -> list[str]:
    """After the ban nobody may sign in with the old address: another account that has it is
    said on the old one."""
    deadline = Deadline(settings.CLERK_EDIT_DEADLINE)
    try:
        found = clerk().find_by_email(account.email, deadline=deadline)
    except ClerkError:
        note = f"Clerk could not be asked who signs in with {account.email}. Check it."
    else:
        others = [other.id for other in found if not other.banned]
        if not others:
            return []
        note = f"{account.email} still finds a user who can sign in ({others[0]}). Look at it."
    ClerkAccount.objects.filter(pk=account.pk).update(note=note)
    return [f"{account}: {note}"]


def _tried_lately(operation: OperationKind, **whose: OuterRef) -> Exists:
    """What Clerk refused, as for a plan that lacks it, is tried again after an hour, not each
    minute: every try stands in the journal."""
    failed = [Status.REFUSED, Status.DROPPED]
    since = timezone.now() - AGAIN_AFTER
    return Exists(
        SyncAttempt.objects.filter(
            **whose,
            operation=operation,
            status__in=failed,
            source=Source.TASK,
            started_at__gt=since,
        )
    )


def name_the_nameless() -> list[str]:
    """Who accepts an invitation need not give Clerk a name: it gets the row's."""
    notes = []
    nameless = BuilderUser.objects.filter(
        ~_tried_lately(OperationKind.PUSH_NAME, user=OuterRef("pk")),
        invitations__status=InvitationStatus.ACCEPTED,
        account__first_name="",
        account__last_name="",
        account__deleted_at=None,
    ).select_related("account")
    for user in nameless.distinct():
        operation = PushName.on(user, {"name": ["", user.name]})
        try:
            dual_write(operation, user, actor=None, source=Source.TASK)
        except ChangeFailed as failure:
            notes.append(f"{user}: Clerk did not get the name. {failure.full_message}")
        else:
            notes.append(f"{user}: Clerk has the name.")
    return notes
