"""Rate limits for callers, counted in PostgreSQL so that all processes share one count."""

from __future__ import annotations

from datetime import timedelta
from math import ceil

from django.db import connection
from django.db.models.functions import Now
from django.utils.crypto import salted_hmac

from users.models import ApiUse

WINDOW = timedelta(minutes=1)

# One statement counts and decides, so that requests at the same time are all counted.
_COUNT = """
INSERT INTO users_apiuse AS known (key, since, count) VALUES (%(key)s, now(), 1)
ON CONFLICT (key) DO UPDATE SET
    since = CASE WHEN known.since <= now() - make_interval(secs => %(window)s)
        THEN now() ELSE known.since END,
    count = CASE WHEN known.since <= now() - make_interval(secs => %(window)s)
        THEN 1 ELSE known.count + 1 END
RETURNING count, extract(epoch FROM since + make_interval(secs => %(window)s) - now())
"""


def seconds_to_wait(who: str, *, limit: int) -> int:
    """Count one request of `who`. Return the seconds to wait, or 0 if the request is allowed.

    `who` may send `limit` requests in each window of a minute.
    """
    key = salted_hmac(__name__, who, algorithm="sha256").hexdigest()
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"key": key, "window": WINDOW.total_seconds()})
        count, left = cursor.fetchone()
    return max(1, ceil(left)) if count > limit else 0


def forget_old() -> None:
    """Delete the counts whose window is over."""
    ApiUse.objects.filter(since__lt=Now() - WINDOW).delete()
