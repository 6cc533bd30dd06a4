"""Plan the reverse of a run, as far as it can be undone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from users.changes import Change, Changes, changes_of
from users.errors import BulkRefused
from users.models import BulkRow, BulkRun, OperationKind, RowStatus
from users.sync.bulk.clerk_values import apart
from users.sync.bulk.plan import Plan, Planned
from users.sync.bulk.run import find
from users.sync.inbound.facts import unfit_name
from users.version import same

BACK: dict[str, tuple[tuple[str, OperationKind], ...]] = {
    OperationKind.UPDATE: (("*", OperationKind.UPDATE),),
    OperationKind.REPLACE_EMAIL: (("email", OperationKind.REPLACE_EMAIL),),
    OperationKind.FOLLOW: (("name", OperationKind.UPDATE), ("email", OperationKind.REPLACE_EMAIL)),
    OperationKind.PUSH_NAME: (("name", OperationKind.UPDATE),),
    OperationKind.PUSH_EMAIL: (("email", OperationKind.REPLACE_EMAIL),),
    OperationKind.LINK: (("clerk_id", OperationKind.UNLINK),),
    OperationKind.BAN: (("banned", OperationKind.UNBAN),),
    OperationKind.UNBAN: (("banned", OperationKind.BAN),),
}
"""What undoes each kind, field by field; "*" stands for all fields at once."""

SAID_FIRST = {
    OperationKind.REPLACE_EMAIL: (
        "Emails replaced: {}. They are replaced back; Clerk mailed the people, and does it again."
    ),
    OperationKind.FOLLOW: (
        "Users that took Clerk's values: {}. Both sides take what was here before."
    ),
    OperationKind.PUSH_NAME: ("Names pushed: {}. Both sides take the name that Clerk had before."),
    OperationKind.PUSH_EMAIL: (
        "Emails pushed: {}. Both sides take the email that Clerk had before."
    ),
    OperationKind.INVITE: (
        "Invitations mailed: {}. That cannot be undone here: revoke them in the admin."
    ),
    OperationKind.CREATE: (
        "Users created: {}. That cannot be undone here: delete them in the admin."
    ),
    OperationKind.CREATE_INVITED: (
        "Users created and invited: {}. That cannot be undone here: delete them in the admin."
    ),
    OperationKind.SIGN_OUT: (
        "Users signed out: {}. That cannot be undone: they sign in again themselves."
    ),
    OperationKind.REFRESH: (
        "Users refreshed: {}. That only asked Clerk, so there is nothing to undo."
    ),
    OperationKind.DELETE: (
        "Users deleted: {}. That cannot be undone: Clerk has forgotten their accounts. "
        "import_users makes such users anew, with new accounts."
    ),
}

IRREVERSIBLE = SAID_FIRST.keys() - BACK.keys()


def plan_undo(pk: int, *, command: str) -> Plan:
    """Plan the reverse of run `pk`; its notes first say what cannot be undone.

    Raises `BulkRefused`, also when nothing can be undone.
    """
    run = find(pk, command=command)
    done = list(run.rows.filter(state=RowStatus.DONE).select_related("user", "attempt"))
    rows: list[Planned] = []
    lost: list[str] = []
    # Undo the last change first: two lines may have been about one user.
    for row in reversed(done):
        if row.operation in IRREVERSIBLE:
            continue
        if row.user is None:
            lost.append(f"{row.label} cannot be undone: the user was deleted.")
            continue
        if not row.changes:
            lost.append(
                f"{row.label} cannot be undone: what it changed was erased from the records."
            )
            continue
        if (
            row.operation in (OperationKind.BAN, OperationKind.UNBAN)
            and row.user.account_id != row.clerk_id
        ):
            lost.append(f"{row.label} cannot be undone: the user has another Clerk account now.")
            continue
        back = list(_back(row))
        rows += back
        if why := _unfit_before(row):
            lost.append(f"{row.label}: the name before is not restored. {why}")
        elif not back and row.operation not in SAID_FIRST:
            lost.append(f"{row.label} cannot be undone: there was no value before.")
    counts = Counter(row.operation for row in done)
    said = [text.format(counts[kind]) for kind, text in SAID_FIRST.items() if counts[kind]]
    if done and counts.keys() <= IRREVERSIBLE:
        raise BulkRefused(f"Run {pk} cannot be undone. {' '.join(said)}")
    return Plan(command, tuple(rows), (*said, *lost), undo_of=run.pk)


def is_possible(run: BulkRun) -> bool:
    """Return whether anything of a run can be undone."""
    return run.rows.filter(state=RowStatus.DONE, operation__in=list(BACK)).exists()


def _back(row: BulkRow) -> Iterator[Planned]:
    """Yield the reverse changes of a row, without a name that no row may take."""
    reversed_changes: Changes = {
        field: Change(after, before)
        for field, (before, after) in _changed(row).items()
        if not same(field, before, after) and not (field == "name" and _unfit_before(row))
    }
    for field, kind in BACK.get(row.operation, ()):
        changes = {
            name: change for name, change in reversed_changes.items() if field in ("*", name)
        }
        emptied = any(
            name in ("name", "email") and not change.after for name, change in changes.items()
        )
        replaced = kind == OperationKind.UNLINK and changes["clerk_id"].after is not None
        if changes and not emptied and not replaced:
            assert row.user is not None
            yield Planned.on(row.user, kind, changes, row.line)


def _unfit_before(row: BulkRow) -> str:
    """Return why the earlier name may not be restored; empty for any other name, and for none."""
    name = _changed(row).get("name")
    return unfit_name(str(name.before or "") if name else "")


def _changed(row: BulkRow) -> Changes:
    """Return the changes as the attempt recorded them, with the values that Clerk really held."""
    if row.attempt:
        return changes_of(row.attempt.changes)
    return apart(changes_of(row.changes))[0]
