"""Migrations, forward and back."""

from __future__ import annotations

from django.db import connection
from django.db.migrations.executor import MigrationExecutor


def migrate_forward() -> None:
    migrate(MigrationExecutor(connection).loader.graph.leaf_nodes("users"))


def migrate(targets: list[tuple[str, str]]) -> None:
    MigrationExecutor(connection).migrate(targets)
