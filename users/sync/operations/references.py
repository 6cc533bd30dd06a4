"""Find the rows of other applications that refer to a row of ours, from the catalogue.

PostgreSQL refuses to delete a row that others refer to. People should be told before Clerk is
asked, and in words.
"""

from __future__ import annotations

import uuid
from collections import Counter

from django.db import connection
from django.utils.text import get_text_list
from django.utils.translation import gettext as _
from psycopg import sql

# A foreign key that sets NULL, or deletes the other row too, is in nobody's way.
_KEYS = """
SELECT nspname, relname, attname, has_table_privilege(pg_class.oid, 'SELECT')
FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'f' AND confrelid = %s::regclass AND confdeltype IN ('a', 'r')
    AND cardinality(conkey) = 1 AND conrelid <> 'users'::regclass
"""


def to_user(user_id: uuid.UUID) -> str:
    """Name the rows that refer to a user, such as “2 homeowners and 1 appointment”; "" for none."""
    return _to("users", user_id)


def to_group(group_id: uuid.UUID) -> str:
    """Name the rows that refer to a builder group, apart from its users; "" for none."""
    return _to("builder_groups", group_id)


def _to(table: str, row_id: uuid.UUID) -> str:
    counts: Counter[str] = Counter()
    with connection.cursor() as cursor:
        cursor.execute(_KEYS, [table])
        for schema, name, column, readable in cursor.fetchall():
            if readable:  # else the database itself names the table when it refuses
                query = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s")
                cursor.execute(
                    query.format(sql.Identifier(schema, name), sql.Identifier(column)), [row_id]
                )
                counts[name] += cursor.fetchone()[0]
    parts = [_counted(count, name) for name, count in sorted(counts.items()) if count]
    return get_text_list(parts, _("and"))


def _counted(count: int, table: str) -> str:
    name = table.replace("_", " ")
    if count == 1:
        name = f"{name[:-3]}y" if name.endswith("ies") else name.removesuffix("s")
    return f"{count} {name}"
