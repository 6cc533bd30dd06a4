"""Report whether the process is alive and whether it can work.

The answers are plain text without secrets, and need no login.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from users.health import lines


@login_not_required
@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while the process is alive. The database is not asked."""
    return HttpResponse("ok\n", content_type="text/plain")


@login_not_required
@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if the database answers and is migrated, else 503.

    The answer also reports pending attempts. They do not change the status.
    """
    try:
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return _answer(["migrations: not applied, run manage.py migrate"], 503)
        return _answer(["database: ok", "migrations: ok", *lines()], 200)
    except DatabaseError:
        return _answer(["database: does not answer"], 503)


def _answer(text: list[str], status: int) -> HttpResponse:
    return HttpResponse("\n".join([*text, ""]), status=status, content_type="text/plain")
