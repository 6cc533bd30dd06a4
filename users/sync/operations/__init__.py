"""Define what each kind of change means, for the save and for recovery."""

from __future__ import annotations

from users.models import SyncAttempt
from users.sync.operations.actions import (
    AccountAction,
    Ban,
    EndSession,
    ResetMfa,
    SignOut,
    Unban,
    Unlock,
)
from users.sync.operations.base import Operation, Seen, Verdict
from users.sync.operations.edits import Edit, ReplaceEmail, SetPassword
from users.sync.operations.following import Follow
from users.sync.operations.inviting import CreateInvited, Invite, Revoke
from users.sync.operations.lifecycle import Create, CreateAccount, CreateFromClerk, Delete
from users.sync.operations.linking import Link, Unlink
from users.sync.operations.metadata import MergeMetadata
from users.sync.operations.push import PushEmail, PushName

__all__ = [
    "AccountAction",
    "Ban",
    "Create",
    "CreateAccount",
    "CreateFromClerk",
    "CreateInvited",
    "Delete",
    "Edit",
    "EndSession",
    "Follow",
    "Invite",
    "Link",
    "MergeMetadata",
    "Operation",
    "PushEmail",
    "PushName",
    "ReplaceEmail",
    "ResetMfa",
    "Revoke",
    "Seen",
    "SetPassword",
    "SignOut",
    "Unban",
    "Unlink",
    "Unlock",
    "Verdict",
    "from_attempt",
]


def from_attempt(attempt: SyncAttempt) -> Operation:
    """Rebuild the operation that an attempt recorded, so that recovery can go on with it."""
    return Operation.kinds[attempt.operation].from_attempt(attempt)
