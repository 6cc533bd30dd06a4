"""Tidy what belonged to users that another application deleted: no foreign key of ours does it."""

from __future__ import annotations

from django.db import connection, transaction

from users.sync.mirror import store

# A person could still accept an open invitation. So it is revoked in Clerk before it is deleted.
# An attempt is recorded before the user that it creates, so those in flight stay as they are.
_TIDY = """
DELETE FROM users_agreement
WHERE NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
RETURNING own_email, email;
UPDATE users_clerkaccount SET user_id = NULL
WHERE user_id IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE users.id = user_id);
UPDATE users_clerkaccount SET replaced_for_id = NULL
WHERE replaced_for_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM users WHERE users.id = replaced_for_id);
UPDATE users_invitation SET status = 'revoked', send_after = NULL, updated_at = now(),
    revoke_due = clerk_invitation_id IS NOT NULL
WHERE status IN ('waiting', 'pending')
    AND NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
    AND NOT EXISTS (
        SELECT FROM users_syncattempt AS attempt
        WHERE attempt.user_id = users_invitation.user_id AND attempt.status = 'started'
    );
DELETE FROM users_invitation
WHERE status NOT IN ('waiting', 'pending') AND NOT revoke_due
    AND NOT EXISTS (SELECT FROM users WHERE users.id = user_id);
UPDATE users_syncattempt SET user_id = NULL
WHERE user_id IS NOT NULL AND status <> 'started'
    AND (late_until IS NULL OR late_until < now())
    AND NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
"""


# Nearly always nothing is found. It is looked for without the lock of the facts, for which events
# would wait.
_ANY = """
SELECT EXISTS (
    SELECT FROM users_agreement WHERE NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
) OR EXISTS (
    SELECT FROM users_clerkaccount
    WHERE user_id IS NOT NULL AND NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
) OR EXISTS (
    SELECT FROM users_clerkaccount
    WHERE replaced_for_id IS NOT NULL
        AND NOT EXISTS (SELECT FROM users WHERE users.id = replaced_for_id)
) OR EXISTS (
    SELECT FROM users_invitation WHERE NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
) OR EXISTS (
    SELECT FROM users_syncattempt
    WHERE user_id IS NOT NULL AND status <> 'started'
        AND NOT EXISTS (SELECT FROM users WHERE users.id = user_id)
)
"""


def tidy() -> set[str]:
    """Forget what is stored about rows that are gone. The journal keeps their names.

    Returns the emails that the rows had: accounts of other rows may wait for them.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ANY)
        if not cursor.fetchone()[0]:
            return set()
    with transaction.atomic():
        store.lock()
        with connection.cursor() as cursor:
            cursor.execute(_TIDY)
            return {email for emails in cursor.fetchall() for email in emails if email}
