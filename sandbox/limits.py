"""Apply Clerk's rate limits for the instance, for a user and for invitations.

A request over a limit gets 429 with Retry-After.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from sandbox.errors import Refusal, problem

PER_USER = {
    "PATCH /users/{user_id}",
    "PATCH /users/{user_id}/metadata",
    "PUT /users/{user_id}/metadata",
}


@dataclass(frozen=True)
class Limits:
    """Pairs of `(requests, seconds)`. The defaults are those of a production instance."""

    instance: tuple[int, float] = (1000, 10.0)
    user: tuple[int, float] = (10, 10.0)
    invitations: tuple[int, float] = (100, 3600.0)

    @classmethod
    def of_key(cls, secret_key: str) -> Limits:
        """Return the limits of production or development, by the prefix of the key."""
        return cls() if secret_key.startswith("sk_live_") else cls(instance=(100, 10.0))


class Limiter:
    """Count requests in sliding windows; without limits, allow every request."""

    def __init__(self, limits: Limits | None, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._seen: dict[str, deque[float]] = defaultdict(deque)

    def check(self, route: str, user_id: str | None) -> None:
        """Count a request. Raises the 429 `Refusal` if it exceeds a limit."""
        if self.limits is None:
            return
        self._count("instance", self.limits.instance)
        if route in PER_USER and user_id:
            self._count(f"user {user_id}", self.limits.user)
        if route == "POST /invitations":
            self._count("invitations", self.limits.invitations)

    def _count(self, what: str, limit: tuple[int, float]) -> None:
        most, seconds = limit
        now, seen = self._clock(), self._seen[what]
        while seen and seen[0] <= now - seconds:
            seen.popleft()
        if len(seen) >= most:
            wait = max(1, math.ceil(seen[0] + seconds - now))
            text = "Too many requests, retry later"
            raise Refusal(
                429,
                problem("too_many_requests", "Too many requests", text, resets_in=wait),
                headers={"Retry-After": str(wait)},
            )
        seen.append(now)
