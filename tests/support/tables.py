"""The tables that facts and decisions live in: put back as they were, and compared."""

from __future__ import annotations

from typing import Any

from django.db import connection

from users.models import Agreement, BuilderUser, ClerkAccount, Invitation

TABLES = (
    "users_webhookdelivery",
    "users_syncattempt",
    "users_invitation",
    "users_agreement",
    "users_clerkaccount",
    "users",
)
"""Those that refer to others first."""

OF_OUR_CLOCK = ("released_at",)
"""Columns of an account that say when we did something, not what Clerk has shown."""


class Snapshot:
    """What the tables held when it was made, times included."""

    def __init__(self) -> None:
        with connection.cursor() as cursor:
            self._kept = [(table, self._read(cursor, table)) for table in TABLES]

    def restore(self) -> None:
        with connection.cursor() as cursor:
            for table, _ in self._kept:
                cursor.execute(f"DELETE FROM {table}")
            for table, rows in reversed(self._kept):
                cursor.execute(
                    f"INSERT INTO {table} "
                    f"SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s::jsonb)",
                    [rows],
                )

    @staticmethod
    def _read(cursor: Any, table: str) -> str:
        cursor.execute(f"SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]')::text FROM {table} AS t")
        return str(cursor.fetchone()[0])


def end() -> dict[str, Any]:
    """What the order of facts must not change: rows, links, agreements, accounts, invitations and
    notes. Whether a dead account was replaced before makes no difference."""
    return {
        "rows": {row.pk: (row.name, row.email, row.clerk_id) for row in BuilderUser.objects.all()},
        "agreements": {
            one.pk: (one.clerk_id, one.linked_by, one.name, one.email, one.own_email, one.note)
            for one in Agreement.objects.all()
        },
        "accounts": {
            account.pk: {
                field.attname: getattr(account, field.attname)
                for field in ClerkAccount._meta.concrete_fields
                if field.name not in OF_OUR_CLOCK
                and not (account.deleted_at and field.name in ("replaced_for", "ban_due"))
            }
            | {"released": not account.deleted_at and account.released_at is not None}
            for account in ClerkAccount.objects.all()
        },
        "invitations": dict(Invitation.objects.values_list("reference", "status")),
    }
