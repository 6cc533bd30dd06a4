"""The other application at work: it inserts, updates and deletes, and knows what must be stored."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from tests.support.adopted import Original

PLANNED = "- 'updated_at' || jsonb_build_object('clerk_id', nullif(one.clerk_id, ''))"
"""What an adoption changes in a row of `users`: a column more, and no empty Clerk id."""
ROW = {
    "users": f"to_jsonb(one) {PLANNED}",
    "builder_groups": "to_jsonb(one)",
    "homeowners": "to_jsonb(one)",
    "appointments": "to_jsonb(one)",
}

Row = dict[str, Any]


def read(database: Original) -> dict[str, dict[str, Row]]:
    """Return every column of every row of the other application, by table and id."""
    with database.react() as client:
        return {table: _rows(client, table) for table in ROW}


def _rows(client: psycopg.Connection[Any], table: str) -> dict[str, Row]:
    found = client.execute(f"SELECT one.id::text, {ROW[table]} FROM public.{table} AS one")
    return dict(found.fetchall())


class React(threading.Thread):
    """Writes until it is told to stop. `rows` is what must be stored, of every row and column.

    Each of its statements must succeed.
    """

    def __init__(self, database: Original) -> None:
        super().__init__(daemon=True)
        self.rows = read(database)
        self.failures: list[str] = []
        self.rounds = 0
        self._database = database
        self._stopped = threading.Event()
        self._chosen = random.Random(1)

    def run(self) -> None:
        with self._database.react() as client:
            deeds = (self._insert, self._update, self._delete, self._rename_a_group, self._move)
            while not self._stopped.wait(0.01):
                self._try(client, deeds[self.rounds % len(deeds)])
                self.rounds += 1

    def stop(self) -> None:
        self._stopped.set()
        self.join(60)

    def _try(
        self, client: psycopg.Connection[Any], deed: Callable[[psycopg.Connection[Any]], None]
    ) -> None:
        try:
            deed(client)
        except psycopg.Error as error:
            self.failures.append(f"{deed.__name__}: {error}")

    def _some(self, table: str) -> str:
        return self._chosen.choice(sorted(self.rows[table]))

    def _insert(self, client: psycopg.Connection[Any]) -> None:
        number = self.rounds
        sent = {"name": f"React\t{number}", "email": f"React{number}@Example.com", "password": "p"}
        [stored] = client.execute(
            "INSERT INTO users AS one (name, email, password) VALUES "
            f"(%(name)s, %(email)s, %(password)s) RETURNING {ROW['users']}", sent,
        ).fetchone() or [{}]  # fmt: skip
        assert stored.items() >= sent.items()
        assert stored["role"] == "ADMIN"
        self.rows["users"][stored["id"]] = stored

    def _update(self, client: psycopg.Connection[Any]) -> None:
        self._set(client, "users", self._some("users"), {
            "name": f" R {self.rounds} ", "notify_tasks": self.rounds % 2 == 0,
            "role": self._chosen.choice(["ADMIN", "BUILDER", None]),
        })  # fmt: skip

    def _delete(self, client: psycopg.Connection[Any]) -> None:
        referred = {row.get("builder_user_id") for row in self.rows["homeowners"].values()}
        referred |= {row["created_by_id"] for row in self.rows["appointments"].values()}
        free = sorted(set(self.rows["users"]) - referred)
        gone = self._chosen.choice(free)
        client.execute("DELETE FROM users WHERE id = %s", [gone])
        del self.rows["users"][gone]

    def _rename_a_group(self, client: psycopg.Connection[Any]) -> None:
        changes = {"name": f"Oak Hill {self.rounds}"}
        self._set(client, "builder_groups", self._some("builder_groups"), changes)

    def _move(self, client: psycopg.Connection[Any]) -> None:
        """Change a group and one of its users in one transaction."""
        group, user = self._some("builder_groups"), self._some("users")
        with client.transaction():
            self._set(client, "builder_groups", group, {"email": f"{self.rounds}@example.com"})
            self._set(client, "users", user, {"builder_group_id": group})

    def _set(self, client: psycopg.Connection[Any], table: str, row_id: str, changes: Row) -> None:
        assigned = ", ".join(f"{column} = %({column})s" for column in changes)
        client.execute(
            f"UPDATE {table} SET {assigned} WHERE id = %(row_id)s", {**changes, "row_id": row_id}
        )
        self.rows[table][row_id] |= changes
