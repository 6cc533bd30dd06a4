"""The gateway to Clerk: the only package that knows its SDK, its API and its answers."""

from users.clerk.client import Clerk, clerk
from users.clerk.deadline import Deadline
from users.clerk.pace import BULK_SHARE, Pace, rate_limited
from users.clerk.preload import warm_up
from users.clerk.types import ClerkInstance, ClerkInvitation, ClerkSession, ClerkUser, UserPage

__all__ = [
    "BULK_SHARE",
    "Clerk",
    "ClerkInstance",
    "ClerkInvitation",
    "ClerkSession",
    "ClerkUser",
    "Deadline",
    "Pace",
    "UserPage",
    "clerk",
    "rate_limited",
    "warm_up",
]
