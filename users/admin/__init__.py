"""The admin: one module a model. Each declares what is shown and calls one function of sync."""

from users.admin import builder_group, builder_user, clerk_account, sync_attempt

__all__ = ["builder_group", "builder_user", "clerk_account", "sync_attempt"]
