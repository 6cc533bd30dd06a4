"""Django's PostgreSQL backend with a pool whose connections respect the wait limit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

import psycopg
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.types.datetime import TimestampLoader
from psycopg_pool import ConnectionPool

from cascade.database import current_limit, schemas, waiting_at_most

RV = TypeVar("RV")

_WHERE = ("USER", "HOST", "PORT", "NAME")

CHECK_SECONDS = 2.0
"""Seconds that the check of an idle connection may take. Then the pool takes another one."""
CONFIGURE_SECONDS = 5.0
"""Seconds that the configuration of a new connection may take; as long as `connect_timeout`.

A thread of the pool configures connections. It has no request and no limit, and must not hang.
"""


class UtcLoader(TimestampLoader):
    """Read a time without a time zone as UTC. Tables of another application hold such times.

    Our sessions are in UTC, so PostgreSQL converts and compares values of both types rightly.
    """

    def load(self, data: Buffer) -> datetime:
        """Return an aware time."""
        return super().load(data).replace(tzinfo=UTC)


class LimitedConnection(psycopg.Connection[Any]):
    """End each wait of a connection at the limit of the request."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer, at most for the seconds that the request has left.

        Raises `OperationalError` at the limit, and closes the connection.
        """
        limit = current_limit()
        if limit is None or timeout is not None:
            return super().wait(gen, interval, timeout)
        with limit.waiting() as seconds:
            try:
                return super().wait(gen, interval, timeout=seconds)
            except psycopg.errors._WaitTimeout:
                # The outcome of the statement is unknown: the pool must not reuse the connection.
                self.pgconn.finish()
                raise psycopg.OperationalError(
                    "The database did not answer within the time that a request waits for it."
                ) from None


class LimitedPool(ConnectionPool[LimitedConnection]):
    """Stop waiting for a connection at the limit of the request."""

    def getconn(self, timeout: float | None = None) -> LimitedConnection:
        """Return a connection after at most the seconds that the request has left."""
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
    """Use a `LimitedPool` instead of psycopg's own pool. Refuse a wrong search path."""

    _connection_pools: dict[str, ConnectionPool[Any]]  # Django's, not in its stubs
    _right_path: ClassVar[set[tuple[str, ...]]] = set()
    """The databases whose search path this process has found right."""

    @property
    def pool(self) -> ConnectionPool[Any] | None:
        """The pool of this alias, or None without one.

        Django's property has no setting for the class of the pool, so this one creates it.
        """
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
            # Two threads may create a pool at the same time. The second, unopened, is discarded.
            self._connection_pools.setdefault(self.alias, pool)
        return self._connection_pools[self.alias]

    def get_connection_params(self) -> dict[str, Any]:
        """Add the loader of times without a time zone."""
        parameters: dict[str, Any] = super().get_connection_params()
        adapters = AdaptersMap(parameters["context"])
        adapters.register_loader("timestamp", UtcLoader)
        return parameters | {"context": adapters}

    def init_connection_state(self) -> None:
        """Also check the search path, once for each process.

        Raises `ImproperlyConfigured`.
        """
        super().init_connection_state()
        where = (settings.CASCADE_SCHEMA, *(str(self.settings_dict[key]) for key in _WHERE))
        if settings.CASCADE_SCHEMA and where not in self._right_path:
            try:
                with self.connection.cursor() as cursor:
                    schemas.refuse(cursor)
            except ImproperlyConfigured:
                self.close()
                raise
            self._right_path.add(where)

    def _configure_connection(self, connection: Any) -> Any:
        with waiting_at_most(CONFIGURE_SECONDS):
            return super()._configure_connection(connection)  # type: ignore[misc]  # not in stubs
