"""The admin: one module for each model. Each page calls one function of `users.sync`."""

from users.admin import (
    attempt,
    builder_group,
    builder_user,
    bulk_run,
    clerk_account,
    invitation,
    job,
    staff,
    webhook_delivery,
)

__all__ = [
    "attempt",
    "builder_group",
    "builder_user",
    "bulk_run",
    "clerk_account",
    "invitation",
    "job",
    "staff",
    "webhook_delivery",
]
