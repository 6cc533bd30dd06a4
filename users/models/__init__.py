"""The tables: what is stored, and what the database itself refuses. No business rules are here.

One thing changes by named transitions alone, which stand with their table: the state of a bulk run.

`builder_groups` and `users` have the column names of the application that this one replaces, so
that this one can use those tables later.

Others import from here. Inside, each module imports only from the modules below it:

    bulk                                      bulk runs and their rows
    journal                                   attempts: one for each intended change
    mirror, invitations, listing              Clerk's accounts; invitations; entries of the list
    users, webhooks, maintenance              builder users and groups; events; what is remembered
"""

from users.models.bulk import BulkRow, BulkRun, RowStatus, RunRequest, RunStatus
from users.models.invitations import Invitation, InvitationStatus
from users.models.journal import (
    CREATES,
    OperationKind,
    SignIn,
    Source,
    Status,
    SyncAttempt,
    SyncAttemptQuerySet,
)
from users.models.listing import ListDue, ListEntry
from users.models.maintenance import (
    Alert,
    AlertKind,
    ApiUse,
    ClerkRate,
    EventCheck,
    RememberedInstance,
)
from users.models.mirror import Agreement, ClerkAccount, LinkedBy
from users.models.users import LINKED, BuilderGroup, BuilderUser, InternalRole, Role
from users.models.webhooks import DeliveryStatus, WebhookDelivery, WebhookRefusal

__all__ = [
    "CREATES", "LINKED", "Agreement", "Alert", "AlertKind", "ApiUse", "BuilderGroup", "BuilderUser",
    "BulkRow", "BulkRun", "ClerkAccount", "ClerkRate", "DeliveryStatus", "EventCheck",
    "InternalRole", "Invitation", "InvitationStatus", "LinkedBy", "ListDue", "ListEntry",
    "OperationKind", "RememberedInstance", "Role", "RowStatus", "RunRequest", "RunStatus", "SignIn",
    "Source", "Status", "SyncAttempt", "SyncAttemptQuerySet", "WebhookDelivery", "WebhookRefusal",
]  # fmt: skip
