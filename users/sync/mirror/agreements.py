"""Store in `Agreement` what is known about rows besides their columns.

Other applications also write the table and do not report it. So before anything is decided, their
changes are observed: a new row, another account, another name or email.

All decisions are dated by the database's clock, as is `sent_at` of an invitation: the clocks of
several servers differ, and the later decision wins.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from django.db import connection
from django.db.models.functions import Now

from users.clerk import names
from users.ids import USER_ID
from users.models import Agreement, BuilderUser, ClerkAccount, LinkedBy
from users.sync.inbound.facts import Facts
from users.sync.mirror.comparison import NormalizedEmail, NormalizedName, same_email, same_name


def _name(expression: str) -> str:
    return NormalizedName.template % {"expressions": expression}


def _email(expression: str) -> str:
    return NormalizedEmail.template % {"expressions": expression}


_LINKED = f"CASE WHEN users.clerk_id ~ '{USER_ID.pattern}' THEN users.clerk_id END"
_SAME_NAME = f"""(users.name = known.known_name
    OR {_name("users.name")} = {_name("known.known_name")}) AND known.known_name <> ''"""
_SAME_EMAIL = f"""(users.email = known.known_email
    OR {_email("users.email")} = {_email("known.known_email")}) AND known.known_email <> ''"""

# A link that existed before it was recorded counts as a decision. Its time is that of the row's
# creation or of its last accepted invitation: an invitation that is open since then is newer.
_NEW = f"""
INSERT INTO users_agreement (
    user_id, clerk_id, linked_by, linked_since, own_name, own_email, own_email_since,
    name, name_version, email, email_version, note
)
SELECT users.id, {_LINKED},
    CASE WHEN {_LINKED} IS NULL THEN '' ELSE 'inherited' END,
    greatest(users.created_at, (
        SELECT max(sent_at) FROM users_invitation
        WHERE user_id = users.id AND status = 'accepted'
    )),
    users.name, {_email("users.email")}, coalesce({{email_since}}, now()),
    CASE WHEN {_SAME_NAME} THEN users.name END,
    CASE WHEN {_SAME_NAME} THEN known.known_name_version ELSE '' END,
    CASE WHEN {_SAME_EMAIL} THEN users.email END,
    CASE WHEN {_SAME_EMAIL} THEN known.known_email_version ELSE '' END,
    ''
FROM users LEFT JOIN users_clerkaccount AS known ON known.clerk_id = users.clerk_id
WHERE NOT EXISTS (SELECT FROM users_agreement WHERE user_id = users.id) {{rows}}
ON CONFLICT (user_id) DO NOTHING
"""

_OTHER_ACCOUNT = f"""
UPDATE users_agreement AS agreement SET
    clerk_id = {_LINKED}, linked_by = 'inherited', linked_since = now(), linked_at = NULL,
    decided_link = NULL, own_name = users.name, own_email = {_email("users.email")},
    own_email_since = CASE
        WHEN own_email = {_email("users.email")} THEN own_email_since ELSE now()
    END,
    name = CASE WHEN {_SAME_NAME} THEN users.name END,
    name_version = CASE WHEN {_SAME_NAME} THEN known.known_name_version ELSE '' END,
    email = CASE WHEN {_SAME_EMAIL} THEN users.email END,
    email_version = CASE WHEN {_SAME_EMAIL} THEN known.known_email_version ELSE '' END
FROM users LEFT JOIN users_clerkaccount AS known ON known.clerk_id = users.clerk_id
WHERE users.id = agreement.user_id AND agreement.clerk_id IS DISTINCT FROM {_LINKED} {{rows}}
"""

# A value that a row took from its account becomes its own when no earlier event can arrive any
# more: Svix sends for 28 hours. Until then, the account that had the row's first address could
# still claim the row.
_OTHER_VALUES = f"""
UPDATE users_agreement AS agreement SET
    own_name = CASE WHEN other_name THEN users.name ELSE own_name END,
    own_email = CASE WHEN other_email THEN {_email("users.email")} ELSE own_email END,
    own_email_since = CASE
        WHEN other_email AND settled THEN users.updated_at
        WHEN other_email THEN now() ELSE own_email_since
    END
FROM users CROSS JOIN LATERAL (
    SELECT users.updated_at < now() - interval '28 hours' AS settled,
        users.name <> agreement.own_name AND (
            users.name IS DISTINCT FROM agreement.name
            OR users.updated_at < now() - interval '28 hours'
        ) AS other_name,
        users.email IS DISTINCT FROM agreement.own_email
            AND {_email("users.email")} <> agreement.own_email
            AND (
                {_email("users.email")} <> {_email("agreement.email")}
                OR users.updated_at < now() - interval '28 hours'
            ) AS other_email
    FROM users_agreement AS agreement WHERE agreement.user_id = users.id
) AS found
WHERE users.id = agreement.user_id AND (other_name OR other_email) {{rows}}
"""

# Nearly always there is nothing to observe, and these find it out in a tenth of the time.
OTHER_LINK = f"""
SELECT users.id FROM users LEFT JOIN users_agreement AS agreement ON agreement.user_id = users.id
WHERE users.clerk_id = ANY(%s)
    AND (agreement.user_id IS NULL OR agreement.clerk_id IS DISTINCT FROM {_LINKED})
"""
"""Selects the rows of these accounts that `observe_accounts` has to observe."""
UNOBSERVED_ROWS = f"""
SELECT users.id, agreement.own_email, agreement.email
FROM users LEFT JOIN users_agreement AS agreement ON agreement.user_id = users.id
WHERE users.id = ANY(%s) AND (
    agreement.user_id IS NULL OR agreement.clerk_id IS DISTINCT FROM {_LINKED}
    OR users.name <> agreement.own_name AND (users.name IS DISTINCT FROM agreement.name
        OR users.updated_at < now() - interval '28 hours')
    OR users.email <> agreement.own_email AND (users.email IS DISTINCT FROM agreement.email
        OR users.updated_at < now() - interval '28 hours'))
"""
"""Selects the rows whose agreement does not know yet what others wrote, with their last emails."""

# As `_OTHER_VALUES` has it: what was observed once is not selected again.
_WRITTEN_ELSEWHERE = f"""
SELECT users.id FROM users LEFT JOIN users_agreement AS agreement ON agreement.user_id = users.id
WHERE users.id > %s AND (
    agreement.user_id IS NULL OR agreement.clerk_id IS DISTINCT FROM {_LINKED}
    OR (users.name <> agreement.own_name AND (users.name IS DISTINCT FROM agreement.name
        OR users.updated_at < now() - interval '28 hours'))
    OR (users.email <> agreement.own_email
        AND {_email("users.email")} <> agreement.own_email
        AND ({_email("users.email")} <> {_email("agreement.email")}
            OR users.updated_at < now() - interval '28 hours'))
)
ORDER BY users.id LIMIT %s
"""

_NEW_OR_AS_OLD = "CASE WHEN %s THEN coalesce(%s, now()) ELSE users.created_at END"
# The first statement is for a row that nobody has observed yet.
_OWN = f"""
{_NEW.format(rows="AND users.id = %s", email_since=_NEW_OR_AS_OLD)};
UPDATE users_agreement AS agreement SET
    own_name = users.name,
    own_email = {_email("users.email")},
    own_email_since = CASE
        WHEN own_email = {_email("users.email")} THEN own_email_since ELSE coalesce(%s, now())
    END
FROM users WHERE users.id = agreement.user_id AND users.id = %s
"""

# First detach each account whose row has another id now, so that the second statement finds the
# unique key free.
_ACCOUNTS = """
UPDATE users_clerkaccount AS known SET user_id = NULL
WHERE known.user_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM users WHERE users.id = known.user_id AND users.clerk_id = known.clerk_id
) {claims};
UPDATE users_clerkaccount AS known SET user_id = users.id
FROM users
WHERE users.clerk_id = known.clerk_id AND known.user_id IS DISTINCT FROM users.id {accounts}
"""
_ALL_ACCOUNTS = _ACCOUNTS.format(claims="", accounts="")
_SOME_ACCOUNTS = _ACCOUNTS.format(
    claims="""
    AND known.user_id IN (
        SELECT id FROM users WHERE clerk_id = ANY(%s)
        UNION ALL SELECT user_id FROM users_clerkaccount WHERE clerk_id = ANY(%s)
    )""",
    # Stated for both tables, so that the planner reads neither of them as a whole.
    accounts="AND known.clerk_id = ANY(%s) AND users.clerk_id = ANY(%s)",
)

_MISASSIGNED = """
SELECT EXISTS (
    SELECT FROM users_clerkaccount AS known LEFT JOIN users ON users.clerk_id = known.clerk_id
    WHERE known.clerk_id = ANY(%s) AND known.user_id IS DISTINCT FROM users.id
) OR EXISTS (
    SELECT FROM users JOIN users_clerkaccount AS other ON other.user_id = users.id
    WHERE users.clerk_id = ANY(%s) AND other.clerk_id <> users.clerk_id
)
"""

# A fact that shows the row's value makes both agree, however late it arrives. A fact that is older
# than the last agreement does not.
_TOLD = f"""
SELECT users.id, users.clerk_id, users.name, users.email, fact.version,
    agreement.name IS DISTINCT FROM users.name AND agreement.name_version < fact.version
        AND fact.name <> '' AND {_name("fact.name")} = {_name("users.name")} AS names,
    agreement.email IS DISTINCT FROM users.email AND agreement.email_version < fact.version
        AND fact.email <> '' AND {_email("fact.email")} = {_email("users.email")} AS emails
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        AS fact (clerk_id, version, name, email)
    JOIN users ON users.clerk_id = fact.clerk_id
    JOIN users_agreement AS agreement ON agreement.user_id = users.id
        AND agreement.clerk_id = fact.clerk_id
WHERE users.clerk_id = ANY(%s)
    AND (agreement.name IS DISTINCT FROM users.name
        OR agreement.email IS DISTINCT FROM users.email)
"""
_AGREE = f"""
UPDATE users_agreement AS agreement SET
    name = CASE WHEN names THEN told.name ELSE agreement.name END,
    name_version = CASE WHEN names THEN told.version ELSE agreement.name_version END,
    email = CASE WHEN emails THEN told.email ELSE agreement.email END,
    email_version = CASE WHEN emails THEN told.version ELSE agreement.email_version END
FROM ({_TOLD}) AS told
WHERE agreement.user_id = told.id AND (names OR emails)
RETURNING told.clerk_id
"""


def follow(
    facts: Mapping[str, Facts], *, after: Sequence[str] = (), params: Sequence[str] = ()
) -> set[str]:
    """Assign accounts to the rows that have their ids, and record where rows agree with the facts.

    The statements `after`, with their `params`, are executed before it in the same round trip.
    Returns the ids of the accounts that agree on something new.
    """
    ids = list(facts)
    with connection.cursor() as cursor:
        cursor.execute(
            "; ".join([*after, _AGREE, _MISASSIGNED]), [*params, *_told(facts), ids, ids]
        )
        for _ in after:
            cursor.nextset()
        agreed = {clerk_id for (clerk_id,) in cursor.fetchall()}
        cursor.nextset()
        if cursor.fetchone()[0]:
            cursor.execute(_SOME_ACCOUNTS, [ids] * 4)
        return agreed


def observe_accounts(clerk_ids: Sequence[str]) -> None:
    """Observe the rows that have these accounts, before new facts about the accounts are stored."""
    some = "AND users.clerk_id = ANY(%s)"
    with connection.cursor() as cursor:
        new, other_account, _ = _observing(some)
        cursor.execute(f"{new}; {other_account}", [list(clerk_ids)] * 2)


def would_agree(facts: Mapping[str, Facts]) -> bool:
    """Return whether these facts make a row agree, although they do not change any account."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT EXISTS (SELECT FROM ({_TOLD}) AS told WHERE names OR emails)", _told(facts)
        )
        return bool(cursor.fetchone()[0])


def _told(facts: Mapping[str, Facts]) -> list[str | list[str]]:
    states = [fact.snapshot.value or {} for fact in facts.values()]
    return [
        list(facts),
        [fact.snapshot.version for fact in facts.values()],
        [names.join(state.get("first_name", ""), state.get("last_name", "")) for state in states],
        [state.get("email", "") for state in states],
        list(facts),
    ]


def decide(row: BuilderUser, clerk_id: str | None, *, at: datetime | None = None) -> None:
    """Record that staff chose the account of the row, or None; `at` is the time if it was earlier.

    Row and account agree on the row's name if the account has ever had it. If the person was
    renamed since, the row takes the new name.
    """
    observe([row.pk])
    ClerkAccount.objects.filter(user=row.pk).exclude(pk=clerk_id or "").update(user=None)
    account = ClerkAccount.objects.filter(pk=clerk_id).first()
    if account is not None:
        ClerkAccount.objects.filter(pk=account.pk).update(user=row.pk)
    shown = account.names.items() if account is not None else ()
    versions = (version for name, version in shown if same_name(row.name, name))
    name_version = max(versions, default="")
    emails_agree = account is not None and same_email(row.email, account.known_email)
    own(row.pk, at=at)
    Agreement.objects.filter(pk=row.pk).update(
        clerk_id=clerk_id,
        linked_by=LinkedBy.STAFF,
        linked_since=at or Now(),
        linked_at=None,
        name=row.name if name_version else None,
        name_version=name_version,
        email=row.email if emails_agree else None,
        email_version=account.known_email_version if account and emails_agree else "",
        note="",
        decided_link=None,
    )


def forget(user_id: uuid.UUID) -> None:
    """Delete what is stored about a row that was deleted.

    The deletion itself does not do this, because it comes before the request to Clerk. A writer of
    facts would wait for its locks until Clerk answers, and would hold the lock that the deletion
    needs afterwards.
    """
    ClerkAccount.objects.filter(user=user_id).update(user=None)
    ClerkAccount.objects.filter(replaced_for=user_id).update(replaced_for=None)
    Agreement.objects.filter(pk=user_id).delete()


def own(user_id: uuid.UUID, *, changed: Collection[str] = (), at: datetime | None = None) -> None:
    """Record that somebody gave the row its present name and email.

    `changed` are the fields that they changed, `at` the time of that decision if it was earlier.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OWN, ["email" in changed, at, user_id, at, user_id])


def written_elsewhere(*, after: uuid.UUID, at_most: int) -> list[uuid.UUID]:
    """Find rows that others wrote and nothing was derived from yet, by id, after a given id."""
    with connection.cursor() as cursor:
        cursor.execute(_WRITTEN_ELSEWHERE, [after, at_most])
        return [user_id for (user_id,) in cursor.fetchall()]


def observe(user_ids: Sequence[uuid.UUID]) -> None:
    """Update the agreements of these rows with what other applications wrote."""
    ids = list(user_ids)
    with connection.cursor() as cursor:
        cursor.execute("; ".join(_observing("AND users.id = ANY(%s)")), [ids] * 3)


def observe_all() -> None:
    """Update all accounts and agreements with the rows, and delete those of rows that are gone."""
    with connection.cursor() as cursor:
        gone = """
            DELETE FROM users_agreement
            WHERE NOT EXISTS (SELECT FROM users WHERE users.id = user_id);
            UPDATE users_clerkaccount SET replaced_for_id = NULL
            WHERE replaced_for_id IS NOT NULL
                AND NOT EXISTS (SELECT FROM users WHERE users.id = replaced_for_id)
        """
        cursor.execute("; ".join([_ALL_ACCOUNTS, *_observing(""), gone]))


def _observing(rows: str) -> list[str]:
    """Return the statements that observe new rows, other accounts of rows, and other values."""
    new = _NEW.format(rows=rows, email_since="users.created_at")
    return [new, _OTHER_ACCOUNT.format(rows=rows), _OTHER_VALUES.format(rows=rows)]
