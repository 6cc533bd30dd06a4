"""The application as gunicorn serves it, with one thing more: a request whose header says so
kills its server process, or loses its database backend, at a step of the save. Only the campaign
starts this module."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from django.db import connection

from cascade.wsgi import application as real_application
from users.sync.outbound import checkpoints

_request = threading.local()


def application(environ: dict[str, Any], start_response: Any) -> Any:
    _request.dies_at = environ.get("HTTP_X_KILL_AT", "")
    _request.loses_backend_at = environ.get("HTTP_X_LOSE_BACKEND_AT", "")
    return real_application(environ, start_response)


def _reached(sender: Any, step: str, **kwargs: Any) -> None:
    if step == getattr(_request, "dies_at", ""):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == getattr(_request, "loses_backend_at", ""):
        _request.loses_backend_at = ""
        thread = threading.Thread(target=_end, args=[connection.connection.info.backend_pid])
        thread.start()
        thread.join()


def _end(backend_pid: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [backend_pid])
    connection.close()


checkpoints.reached.connect(_reached)
