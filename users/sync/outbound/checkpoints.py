"""Announce the named checkpoints of a dual write, in their order.

Nothing in the product listens. The fault campaign does: it kills the process at each checkpoint,
and checks that recovery finds the truth.
"""

from __future__ import annotations

from django.dispatch import Signal

BEFORE_ATTEMPT = "before the attempt"
AFTER_ATTEMPT = "after the attempt"
BEFORE_CALL = "before the call"
AFTER_CALL = "after Clerk applied"
BEFORE_COMMIT = "before the commit"
AFTER_COMMIT = "after the commit"

STEPS = (BEFORE_ATTEMPT, AFTER_ATTEMPT, BEFORE_CALL, AFTER_CALL, BEFORE_COMMIT, AFTER_COMMIT)

reached = Signal()
"""Sent with `step`, one of `STEPS`."""


def reach(step: str) -> None:
    """Announce that a checkpoint is reached."""
    reached.send(sender=None, step=step)
