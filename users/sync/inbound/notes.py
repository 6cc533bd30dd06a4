"""Write the notes for staff on rows and accounts that cannot be decided.

They say why an account has no link, why a row cannot take its account's values, and which accounts
are in doubt.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from django.utils.translation import gettext as _

from users.clerk import names
from users.models import InvitationStatus, LinkedBy, Role
from users.sync.inbound import addresses
from users.sync.inbound.facts import UNSET, unfit_name
from users.sync.inbound.group import Account, Decisions, Group, Invited, Row
from users.sync.mirror.comparison import normalized_email, same_email


def explain(group: Group, decisions: Decisions, now: datetime) -> None:
    """Write the note of each account and row, empty for no problem.

    Busy rows and their accounts keep their notes.
    """
    linked = {row.clerk_id: row for row in decisions.rows.values() if row.clerk_id}
    for account in group.accounts.values():
        row = linked.get(account.id)
        if row is not None and row.busy:
            continue
        if account.released or account.id in decisions.replaced:
            decisions.notes[account.id] = ""
            continue
        decisions.notes[account.id] = (
            _why_it_stays(row, account, decisions)
            if row is not None
            else _why_not_linked(account, group, decisions)
        )
    for row in list(decisions.rows.values()):
        if not row.busy:
            note = _why_in_doubt(row, group, decisions, now)
            decisions.rows[row.id] = replace(row, note=note)


def _why_it_stays(row: Row, account: Account, decisions: Decisions) -> str:
    """Return why a row cannot take its account's values.

    Which side changed a value is not stored here; it is computed where it is shown.
    """
    notes = []
    theirs = account.facts.email.value
    if theirs and not same_email(row.email, theirs):
        holders = [
            other
            for other in decisions.rows.values()
            if other.id != row.id and addresses.key(other.email) == addresses.key(theirs)
        ]
        notes += [_email_in_use(row, other) for other in holders]
    columns = account.facts.snapshot.value or {}
    name = names.join(columns.get("first_name", ""), columns.get("last_name", ""))
    notes.append(unfit_name(name))
    return " ".join(filter(None, notes))


def _email_in_use(row: Row, other: Row) -> str:
    """Name the row of the account, and the row that has the email of the account.

    Both rows show it, so it says at which one staff can act.
    """
    return _(
        "Clerk's email for {row} is already used by {other}. If they are one person, delete "
        "the spare record. If they are two people, use Copy to Clerk on the page of {row}."
    ).format(row=_named(row), other=_named(other))


def _named(row: Row) -> str:
    """Return the name with the email: two rows may have the same name. Pages link it."""
    return f"{row} ({row.email})" if row.name else row.email


def _why_not_linked(account: Account, group: Group, decisions: Decisions) -> str:
    """Return why an account that seems to belong to a row has no link."""
    if not account.usable:
        return ""
    for invitation in group.invitations:
        row = decisions.rows.get(invitation.user_id)
        if row is None:  # another application deleted it
            continue
        if account.facts.reference.value == invitation.reference and invitation.can_be_accepted:
            if normalized_email(invitation.email) not in account.facts.addresses:
                return _(
                    "It came from the invitation of {row}, but not with its email, verified."
                ).format(row=row)
            if invitation.reference in decisions.refused:
                return _(
                    "It accepted the invitation of {row}, but another builder user has its email."
                ).format(row=row)
            if not invitation.may_link(row):
                return _(
                    "It accepted an invitation of {row}, who has become an administrator since. "
                    "Whoever sent it may not manage administrators. Nothing was linked."
                ).format(row=row)
        if _may_have_accepted(account, invitation, row):
            return _(
                "It has the email to which {row} was invited. Clerk does not say that it came "
                "from the invitation, and an administrator gets no account on a guess. Nothing "
                "was linked."
            ).format(row=row)
    columns = account.facts.snapshot.value or {}
    email = columns.get("email", "")
    holders = [one for one in decisions.rows.values() if email and same_email(one.email, email)]
    claimed = decisions.rows.get(account.claimed_id) if account.claimed_id else None
    if len(holders) > 1:
        return _("Several builder users have its email. Nothing was linked.")
    if holders and not columns.get("email_verified"):
        return _("{row} has its email, but it is not verified. Nothing was linked.").format(
            row=holders[0]
        )
    if holders and holders[0].clerk_id:
        return _has_email_and_account(holders[0], group)
    if holders and not account.confirmed:
        return _("{row} has its email, but Clerk did not find it. Nothing was linked.").format(
            row=holders[0]
        )
    if claimed is not None and claimed.clerk_id:
        return _(
            "Its metadata names {claimed}, who has another Clerk account. Nothing was linked."
        ).format(claimed=claimed)
    if claimed is not None:
        return _(
            "Its metadata names {claimed}. That alone is no proof, so nothing was linked."
        ).format(claimed=claimed)
    if holders and not holders[0].busy:
        return _("{row} has its email, but it may be another person's. Nothing was linked.").format(
            row=holders[0]
        )
    return ""


def _may_have_accepted(account: Account, invitation: Invited, row: Row) -> bool:
    """Return whether the account of an administrator may have come from the invitation.

    Its address says so, and its metadata does not.
    """
    return (
        row.role == Role.ADMIN
        and invitation.status in (InvitationStatus.PENDING, InvitationStatus.ACCEPTED)
        and not row.is_decided_since(invitation.sent_at)
        and account.facts.reference is UNSET
        and normalized_email(invitation.email) in account.facts.addresses
        and account.created_at is not None
        and account.created_at > invitation.sent_at
    )


def _has_email_and_account(row: Row, group: Group) -> str:
    account = group.accounts.get(row.clerk_id or "")
    if account is not None and account.deleted:
        return _(
            "{row} has its email and is linked to an account that was deleted in Clerk: link this "
            "one by hand. Nothing was linked."
        ).format(row=row)
    return _("{row} has its email and another Clerk account. Nothing was linked.").format(row=row)


def _why_in_doubt(row: Row, group: Group, decisions: Decisions, now: datetime) -> str:
    """Return why the row has no account, or may have the wrong one."""
    linked = {other.clerk_id for other in decisions.rows.values()}
    if not_given := _why_not_given(row, group, linked):
        return not_given
    if row.own_email_since is None:
        return ""
    current = group.accounts.get(row.clerk_id or "")
    claims = sorted(
        (claimed_at, account.id)
        for account in group.accounts.values()
        if not account.released
        and account.id not in linked
        and (claimed_at := account.held(row.own_email, since=row.own_email_since, now=now))
    )
    living = [
        (claimed_at, one)
        for claimed_at, one in claims
        if group.accounts[one].usable and group.accounts[one].confirmed
    ]
    if living and current is not None and current.deleted:
        return _(
            "Its Clerk account was deleted. {account} has had this email: link it if it is the "
            "same person."
        ).format(account=living[0][1])
    earlier = [
        one
        for claimed_at, one in (claims if row.role == Role.ADMIN else living)
        if row.linked_by == LinkedBy.ADDRESS and claimed_at < (row.linked_since or now)
    ]
    if earlier and group.accounts[earlier[0]].usable:
        return _(
            "It was linked by its email, but {account} had that email earlier. Look at both, and "
            "link the right one."
        ).format(account=earlier[0])
    if earlier:
        ended = (
            _(
                "It was linked by its email, but {account} had that email earlier, and was deleted "
                "in Clerk."
            )
            if group.accounts[earlier[0]].deleted
            else _(
                "It was linked by its email, but {account} had that email earlier, and was "
                "banned in Clerk."
            )
        )
        unlink = _("Unlink the account if it is another person's, or link it by hand.")
        return f"{ended.format(account=earlier[0])} {unlink}"
    if row.clerk_id is None:
        gone = [
            _gone(account)
            for account in group.accounts.values()
            if (account.deleted or (account.banned and not account.released))
            and account.held(row.own_email, since=row.own_email_since, now=now)
        ]
        notes = [
            f"{account.id}: {decisions.notes[account.id]}"
            for account in group.accounts.values()
            if decisions.notes.get(account.id)
            and (
                (account.claimed_id == row.id and account.id not in linked)
                or _shows(account, row.email)
            )
        ]
        return " ".join([*gone, *notes])
    return ""


def _gone(account: Account) -> str:
    said = (
        _("{account}, which has had its email, was deleted in Clerk.")
        if account.deleted
        else _("{account}, which has had its email, was banned in Clerk.")
    )
    return said.format(account=account.id)


def _why_not_given(row: Row, group: Group, linked: Collection[str | None]) -> str:
    """Return why an administrator's row is not given to whoever accepted its invitation.

    Return "" if nobody accepted it, or if staff decided since.
    """
    for invitation in group.invitations:
        if invitation.user_id != row.id or not invitation.can_be_accepted:
            continue
        if row.is_decided_since(invitation.sent_at):
            continue
        for account in group.accounts.values():
            if not account.usable or account.id in linked:
                continue
            accepted = (
                account.facts.reference.value == invitation.reference
                and normalized_email(invitation.email) in account.facts.addresses
            )
            if accepted and not invitation.may_link(row):
                return _(
                    "{account} accepted an invitation to {email}. Whoever sent it may not manage "
                    "administrators, and this user has become one since. Nothing was linked. Link "
                    "the account by hand if it is the same person."
                ).format(account=account.id, email=invitation.email)
            if _may_have_accepted(account, invitation, row):
                return _(
                    "{account} has {email}, to which this user was invited. Clerk does not say "
                    "that it came from the invitation, and an administrator gets no account on a "
                    "guess. Link it by hand if it is the same person."
                ).format(account=account.id, email=invitation.email)
    return ""


def _shows(account: Account, email: str) -> bool:
    return same_email((account.facts.snapshot.value or {}).get("email", ""), email)
