"""Django's backend for PostgreSQL, with a pool and connections that keep the wait limit."""

from __future__ import annotations

from typing import Any, TypeVar

import psycopg
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool

from cascade.database import current_limit, waiting_at_most

RV = TypeVar("RV")

CHECK_SECONDS = 2.0
"""How long an idle connection may take to show that it still works, before another is taken."""
CONFIGURE_SECONDS = 5.0
"""How long a new connection may take for its settings, as long as to connect. They are made by a
thread of the pool, which has no request and must not hang either."""


class LimitedConnection(psycopg.Connection[Any]):
    """A connection whose waits end at the limit of the request."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit = current_limit()
        if limit is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        with limit.waiting() as seconds:
            try:
                return super().wait(gen, interval, timeout=seconds)
            except psycopg.errors._WaitTimeout:
                # Nobody knows what becomes of the statement: the pool must not reuse this.
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    "The database did not answer within the time that a request waits for it."
                ) from None


class LimitedPool(ConnectionPool[LimitedConnection]):
    """A pool that gives up waiting for a connection at the limit of the request."""

    def getconn(self, timeout: float | None = None) -> LimitedConnection:
        limit = current_limit()
        if limit is None:
            return super().getconn(timeout)
        with limit.waiting() as seconds:
            return super().getconn(min(seconds, self.timeout if timeout is None else timeout))


def check_connection(connection: LimitedConnection) -> None:
    """Raise `OperationalError` unless the connection works."""
    with waiting_at_most(CHECK_SECONDS):
        ConnectionPool.check_connection(connection)


class DatabaseWrapper(base.DatabaseWrapper):
    _connection_pools: dict[str, ConnectionPool[Any]]  # Django's, not in its stubs

    @property
    def pool(self) -> ConnectionPool[Any] | None:
        """Give the pool of this alias. Django's property fixes its class, so it is made here."""
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if self.alias not in self._connection_pools:
            pool = LimitedPool(
                kwargs={**self.get_connection_params(), "autocommit": True},
                connection_class=LimitedConnection,
                open=False,
                configure=self._configure_connection,
                check=check_connection if self.settings_dict["CONN_HEALTH_CHECKS"] else None,
                **options,
            )
            # Threads may make two at once. Neither is open yet: the second is discarded.
            self._connection_pools.setdefault(self.alias, pool)
        return self._connection_pools[self.alias]

    def _configure_connection(self, connection: Any) -> Any:
        with waiting_at_most(CONFIGURE_SECONDS):
            return super()._configure_connection(connection)  # type: ignore[misc]  # not in stubs
