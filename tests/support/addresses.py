"""Every URL of the application, and an object for each that is about one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from staff.models import ProviderAccount, SignInEvent
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    SyncAttemptFactory,
    linked,
)
from users.models import (
    BuilderUser,
    BulkRow,
    BulkRun,
    ClerkAccount,
    Invitation,
    WebhookDelivery,
)


@dataclass
class World:
    """One of everything that a page may be about."""

    sandbox: Any
    objects: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        user = linked(self.sandbox, clerk={"locked": True})
        run = BulkRun.objects.create(command="clerk_push")
        self.objects = {
            "users.builderuser": user,
            "users.buildergroup": BuilderGroupFactory(),
            "users.syncattempt": SyncAttemptFactory(user=user),
            "users.clerkaccount": ClerkAccount.objects.get(user=user),
            "users.bulkrun": run,
            "users.bulkrow": BulkRow.objects.create(run=run, position=1, operation="update"),
            "users.invitation": Invitation.objects.create(
                user=BuilderUserFactory(), purpose="new_account", email="new@example.com",
                clerk_invitation_id=None,
            ),
            "users.webhookdelivery": WebhookDelivery.objects.create(
                svix_id=f"msg_{user.pk}", type="user.updated", processed_at=timezone.now()
            ),
            "procrastinate.procrastinatejob": ProcrastinateJob.objects.get(
                pk=app.configure_task("nothing", queue="nobody's").defer()
            ),
            "staff.signinevent": SignInEvent.objects.create(step="password", account="nobody"),
            "staff.provideraccount": ProviderAccount.objects.create(
                user=StaffFactory(), issuer="https://company.example", subject=str(user.pk)
            ),
            "auth.user": StaffFactory(is_superuser=False),
            "auth.group": Group.objects.create(name=f"Nobody {user.pk}"),
        }  # fmt: skip

    def address(self, pattern: str) -> str:
        if pattern.startswith("admin/^(?P<app_label>"):
            return "/admin/users/"
        if pattern == "admin/(?P<url>.*)$":
            return "/admin/nowhere/"
        app, _, rest = pattern.removeprefix("admin/").partition("/")
        about = self.objects.get(f"{app}.{rest.split('/')[0]}")
        user = self.objects["users.builderuser"]
        values = {
            "<path:content_type_id>": ContentType.objects.get_for_model(BuilderUser).pk,
            "<str:field>": "name",
            "<int:run>": self.objects["users.bulkrun"].pk,
            **dict.fromkeys(
                ("<path:object_id>", "<int:pk>", "<path:pk>", "<id>"),
                quote(about.pk) if about else user.pk,
            ),
        }
        for part, value in values.items():
            pattern = pattern.replace(part, str(value))
        if pattern == "admin/autocomplete/":
            pattern += "?app_label=users&model_name=builderuser&field_name=builder_group"
        return f"/{pattern}"


def patterns(found: list[Any] | None = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key in `URLS`, pattern) of every URL."""
    for entry in found if found is not None else get_resolver().url_patterns:
        pattern = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry.url_patterns, pattern)
        elif isinstance(entry, URLPattern):
            yield entry.name or pattern, pattern
