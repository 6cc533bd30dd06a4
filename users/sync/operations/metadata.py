"""Change the public metadata of an account, where a front end stores data of a person."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

from users.changes import Change
from users.clerk import Clerk, ClerkUser, Deadline
from users.models import BuilderUser, OperationKind
from users.sync.operations.actions import AccountAction
from users.sync.operations.base import Claims, Seen, Verdict

METADATA = "public_metadata"


class MergeMetadata(AccountAction):
    """Merge a patch into the public metadata of an account.

    Keys that are not in the patch stay. A key whose value is null is removed.
    """

    kind = OperationKind.MERGE_METADATA
    typed = True
    reads_first = True
    mirror_lacks_it = True

    @classmethod
    def into(cls, user: BuilderUser, patch: Mapping[str, object]) -> MergeMetadata:
        """Build the merge into the metadata of a user's account."""
        return cls.on(user, {METADATA: Change(None, _as_stored(patch))})

    @property
    def patch(self) -> dict[str, object]:
        """Return the metadata to merge."""
        return cast(dict[str, object], self.changes[METADATA].after)

    @property
    def claims(self) -> Claims:
        """Return each key with its value: merges of different keys do not conflict."""
        return {f"metadata {key}": value for key, value in self.patch.items()}

    @property
    def moves(self) -> bool:
        """Tell whether the account was read before, and did not hold the patch."""
        before = self.changes[METADATA].before
        return before is not None and not _holds(before, self.patch)

    def build_on(self, account: ClerkUser) -> None:
        """Record what the account holds at these keys, for the journal."""
        held = account.public_metadata
        before = {key: held[key] for key in self.patch if key in held}
        self.changes = {METADATA: Change(before, self.patch)}

    def send(self, clerk: Clerk, deadline: Deadline) -> Seen:
        """Send the patch to Clerk."""
        return self.seen_in(
            clerk.merge_metadata(self.clerk_id, public_metadata=self.patch, deadline=deadline)
        )

    def judge(self, account: ClerkUser) -> Verdict:
        """Decide by whether the metadata holds the patch."""
        return Verdict.HAS_IT if _holds(account.public_metadata, self.patch) else Verdict.HAS_NOT


def _as_stored(value: object) -> object:
    """Return a JSON value as PostgreSQL gives it back: it writes large floats as integers."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _as_stored(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_as_stored(entry) for entry in value]
    return value


def _holds(stored: object, patch: Mapping[str, object]) -> bool:
    """Tell whether merging the patch would change nothing."""
    return isinstance(stored, Mapping) and all(
        _holds_at(key, stored, wanted) for key, wanted in patch.items()
    )


def _holds_at(key: str, stored: Mapping[str, object], wanted: object) -> bool:
    if wanted is None:
        return stored.get(key) is None
    if isinstance(wanted, Mapping):
        return _holds(stored.get(key, {}), wanted)
    return key in stored and _same(stored[key], wanted)


def _same(stored: object, wanted: object) -> bool:
    """Compare two JSON values. In Python true equals 1, in JSON it does not."""
    if isinstance(stored, bool) or isinstance(wanted, bool):
        return stored is wanted
    if isinstance(stored, int | float) and isinstance(wanted, int | float):
        return _as_double(stored) == _as_double(wanted)
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(_same, stored, wanted))
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        return stored.keys() == wanted.keys() and all(
            _same(stored[key], wanted[key]) for key in wanted
        )
    return bool(stored == wanted)


def _as_double(number: float) -> float:
    """Return a number as JavaScript and Clerk read it, whatever its digits beyond that are."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
