"""Finish pending work in the background, once a minute.

All work is found in the tables. Nothing is lost if the worker does not run for a while, and two
workers at the same time do no harm.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from users.changes import Change
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
from users.sync.inbound.reconcile import (
    reconcile_due,
    reconcile_released,
    reconcile_written_elsewhere,
)
from users.sync.mirror import instance, listing, orphans
from users.sync.operations import Ban, PushName
from users.sync.outbound import recovery
from users.sync.outbound.dual_write import dual_write
from users.sync.outbound.recovery import RecoveryResult
from users.sync.services import invitation_upkeep

AGAIN_AFTER = timedelta(hours=1)
REPLACED_FOR_NOBODY = (
    "It was replaced, and its user was deleted before it could be banned. The person can still "
    "sign in with it: ban or delete it in Clerk."
)


@dataclass
class Report:
    """Result of one round of maintenance. `notes` are sentences for people."""

    attempts: list[RecoveryResult] = field(default_factory=list)
    events: list[Received] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Count the attempts and events that are still unfinished."""
        return sum(not attempt.resolved for attempt in self.attempts) + sum(
            not event.done for event in self.events
        )


def run() -> Report:
    """Do one round of maintenance, and report what was done.

    1. Learn which Clerk instance is ours.
    2. Resolve pending attempts. Then update the rows and result files of their bulk runs, also of
       runs whose process was killed.
    3. Reconcile rows that another application wrote, and accounts that waited for those attempts.
       Try stored events again.
    4. Send, check and expire invitations.
    5. Ban accounts that were replaced, and copy names to new accounts that have none.
    6. Refresh entries of the user list that were locked when something changed that they show.

    Before all that, what belonged to rows that another application deleted is tidied, and whoever
    waits for their emails gets them.
    """
    remember_instance()
    with transaction.atomic():
        reconcile_released(orphans.tidy())
    resolved = list(recovery.recover_all())
    for bulk_run in BulkRun.objects.filter(pk__in={one.attempt.run_id for one in resolved}):
        results.follow(bulk_run)
    follow_killed()
    reconcile_written_elsewhere()
    reconcile_due()
    report = Report(
        attempts=resolved,
        events=deliveries.retry(),
        notes=[*invitation_upkeep.tend(), *ban_replaced(), *name_the_nameless()],
    )
    listing.refresh_due()
    return report


def remember_instance() -> None:
    """Learn once which Clerk instance is ours, for the events that wait for it and for later 404s.

    A failure of Clerk is ignored: the next round tries again.
    """
    if instance.remembered() is None:
        with suppress(ClerkError):
            instance.learn(clerk(), Deadline(settings.CLERK_EDIT_DEADLINE))


def ban_replaced() -> list[str]:
    """Ban the accounts that an accepted change of email replaced.

    Nobody may sign in with the old account any more. Clerk is called here, because the handling of
    events never calls Clerk. A ban that failed is tried again after `AGAIN_AFTER`. Returns notes
    for people.
    """
    notes = []
    tried = _tried_lately(OperationKind.BAN, user=OuterRef("replaced_for"), clerk_id=OuterRef("pk"))
    due = ClerkAccount.objects.filter(~tried, ban_due=True).select_related("replaced_for")
    for account in due:
        user = account.replaced_for
        if account.banned or account.deleted_at:
            ClerkAccount.objects.filter(pk=account.pk).update(ban_due=False)
            continue
        if user is None:
            note = REPLACED_FOR_NOBODY
            ClerkAccount.objects.filter(pk=account.pk).update(ban_due=False, note=note)
            notes.append(f"{account}: {note}")
            continue
        try:
            dual_write(Ban.of_replaced(user, account), user, actor=None, source=Source.TASK)
        except ChangeFailed as failure:
            note = f"It was replaced, but could not be banned: {failure.full_message}"
            if ClerkAccount.objects.filter(pk=account.pk, ban_due=True).update(note=note):
                notes.append(f"{account}: {note}")
        else:
            notes.append(f"{account}: banned, as {user} has a new account.")
            notes += _who_signs_in_with(account)
    return notes


def _who_signs_in_with(account: ClerkAccount) -> list[str]:
    """Note on a banned account that another account still signs in with its address.

    After the ban nobody should sign in with the old address. Returns notes for people.
    """
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
    """Select whether a task's attempt failed within the last hour.

    Clerk may refuse for a long time, for example if the plan lacks a feature. A try each minute
    would fill the journal.
    """
    failed = [Status.REFUSED, Status.DROPPED]
    since = Now() - AGAIN_AFTER
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
    """Copy the row's name to accounts that accepted an invitation without giving a name.

    People need not give a name to Clerk when they accept. Returns notes for people.
    """
    notes = []
    nameless = BuilderUser.objects.filter(
        ~_tried_lately(OperationKind.PUSH_NAME, user=OuterRef("pk")),
        invitations__status=InvitationStatus.ACCEPTED,
        account__first_name="",
        account__last_name="",
        account__deleted_at=None,
    ).select_related("account")
    for user in nameless.distinct():
        operation = PushName.on(user, {"name": Change("", user.name)})
        try:
            dual_write(operation, user, actor=None, source=Source.TASK)
        except ChangeFailed as failure:
            notes.append(f"{user}: Clerk did not get the name. {failure.full_message}")
        else:
            notes.append(f"{user}: Clerk has the name.")
    return notes
