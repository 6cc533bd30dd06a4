"""Public metadata of an account: what a front end keeps there about the person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from users.clerk import Clerk, ClerkUser, Deadline
from users.models import BuilderUser, OperationKind
from users.sync.operations.actions import AccountAction
from users.sync.operations.base import Claims, Seen, Verdict

METADATA = "public_metadata"


class MergeMetadata(AccountAction):
    """Merge into the public metadata. What is not named stays; a key that is null goes."""

    kind = OperationKind.MERGE_METADATA

    @classmethod
    def into(cls, user: BuilderUser, patch: Mapping[str, Any]) -> MergeMetadata:
        return cls.on(user, {METADATA: [None, dict(patch)]})

    @property
    def patch(self) -> dict[str, Any]:
        return dict(self.changes[METADATA][1])

    @property
    def claims(self) -> Claims:
        return {f"metadata {key}": value for key, value in self.patch.items()}

    @property
    def moves(self) -> bool:
        before = self.changes[METADATA][0]
        return before is not None and not _holds(before, self.patch)

    def prepare(self, clerk: Clerk, user: BuilderUser, deadline: Deadline) -> None:
        """Keep what the account holds at these keys, for the journal."""
        held = clerk.get_user(self.clerk_id, deadline=deadline).public_metadata
        before = {key: held[key] for key in self.patch if key in held}
        self.changes = {METADATA: [before, self.patch]}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        return self.seen_in(
            clerk.merge_metadata(self.clerk_id, public_metadata=self.patch, deadline=deadline)
        )

    def judge(self, account: ClerkUser) -> Verdict:
        return Verdict.HAS_IT if _holds(account.public_metadata, self.patch) else Verdict.HAS_NOT


def _holds(stored: Any, patch: Mapping[str, Any]) -> bool:
    """Tell whether merging the patch would change nothing."""
    return isinstance(stored, Mapping) and all(
        _holds_at(key, stored, wanted) for key, wanted in patch.items()
    )


def _holds_at(key: str, stored: Mapping[str, Any], wanted: Any) -> bool:
    if wanted is None:
        return stored.get(key) is None
    if isinstance(wanted, Mapping):
        return _holds(stored.get(key, {}), wanted)
    return key in stored and _same(stored[key], wanted)


def _same(stored: Any, wanted: Any) -> bool:
    """Compare two JSON values. In Python true equals 1, in JSON it does not."""
    if isinstance(stored, bool) or isinstance(wanted, bool):
        return stored is wanted
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(_same, stored, wanted))
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        return stored.keys() == wanted.keys() and all(
            _same(stored[key], wanted[key]) for key in wanted
        )
    return bool(stored == wanted)
