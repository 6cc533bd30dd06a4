"""Both stores, what staff were told, and what must be true in the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.messages import SUCCESS, get_messages
from django.db import connection
from django.test import Client
from django.urls import reverse

from sandbox import Sandbox
from tests.events import happened, post
from tests.factories import BuilderUserFactory, linked
from tests.test_change_form import form_of, page_of, text_of
from users.clerk import names
from users.models import BuilderUser, ClerkAccount, Operation, SyncAttempt, WebhookDelivery
from users.sync import upkeep

TABLES = ("users_bulkrow", "users_syncattempt", "users_invitation", "users_webhookdelivery",
          "users_clerkaccount", "django_admin_log", "users")  # fmt: skip
OF_THE_ACCOUNT = ["deleted in Clerk", "banned", "locked", "image_url", "two_factor_enabled"]
"""What an event tells about an account alone is in the journal, and not in the row's history."""
ROUNDS = 5


class Untrue(AssertionError):
    """Somebody was told the opposite of what is true, or the stores are out of step."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Untrue(what)


class World:
    """A few users, edited by staff through the real pages, and by others inside Clerk."""

    def __init__(self, sandbox: Sandbox, client: Client) -> None:
        self.sandbox = sandbox
        self.client = client
        self._number = 0
        sandbox.reset()
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
        self.keys = [linked(sandbox).pk, linked(sandbox).pk, BuilderUserFactory().pk]
        self.opened = {key: BuilderUser.objects.get(pk=key) for key in self.keys}
        self.undelivered = []
        happened(sandbox)

    def fresh(self) -> int:
        """Every value is used once: by it one sees whose change arrived."""
        self._number += 1
        return self._number

    def user(self, which: int) -> BuilderUser | None:
        return BuilderUser.objects.filter(pk=self.keys[which % len(self.keys)]).first()

    # --- What staff do -----------------------------------------------------------------------

    def edit(self, which: int, *, stale: bool = False) -> None:
        """A new name, on a form opened now or a while ago."""
        user = self.user(which)
        if user is None:
            return
        shown = self.opened.get(user.pk, user) if stale else user
        name = f"Mary Ann Edited{self.fresh()}"
        answer = self.client.post(page_of(user), form_of(shown, name=name))
        self.opened[user.pk] = BuilderUser.objects.filter(pk=user.pk).first() or user
        self.judge(
            answer,
            here=lambda: BuilderUser.objects.filter(pk=user.pk, name=name).exists(),
            clerk=lambda: self.name_in_clerk(user) == name if user.linked else None,
        )

    def regroup(self, which: int) -> None:
        """A change that Clerk need not know."""
        user = self.user(which)
        if user is not None:
            role = "ADMIN" if user.role == "BUILDER" else "BUILDER"
            answer = self.client.post(page_of(user), form_of(user, role=role))
            self.judge(answer, here=lambda: BuilderUser.objects.get(pk=user.pk).role == role)

    def create(self, account: str) -> None:
        email = f"new{self.fresh()}@example.com"
        fields = {"name": "Mary Ann New", "email": email, "role": "BUILDER",
                  "internal_role": "", "builder_group": "", "account": account}  # fmt: skip
        answer = self.client.post(reverse("admin:users_builderuser_add"), fields)
        row = BuilderUser.objects.filter(email=email).first()
        if row is not None:
            self.keys.append(row.pk)
        in_clerk: Callable[[], Any] = lambda: None  # noqa: E731
        if account == "create":
            in_clerk = lambda: bool(self.sandbox.find(email))  # noqa: E731
        elif account == "invite":
            in_clerk = lambda: any(  # noqa: E731
                invitation["email_address"] == email for invitation in self.sandbox.invitations()
            )
        self.judge(
            answer, here=lambda: BuilderUser.objects.filter(email=email).exists(), clerk=in_clerk
        )

    def replace_email(self, which: int) -> None:
        user = self.user(which)
        if user is None or not user.linked:
            return
        email = f"moved{self.fresh()}@example.com"
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        answer = self.client.post(page, {"email": email, "how": "replace"})
        self.judge(
            answer,
            here=lambda: BuilderUser.objects.filter(pk=user.pk, email=email).exists(),
            clerk=lambda: bool(self.sandbox.find(email)),
        )

    def set_password(self, which: int) -> None:
        user = self.user(which)
        if user is None or not user.linked:
            return
        changed = self._password_time(user)
        password = f"correct horse {self.fresh()}"
        page = reverse("admin:users_builderuser_password", args=[user.pk])
        answer = self.client.post(page, {"password1": password, "password2": password})
        self.judge(answer, clerk=lambda: self._password_time(user) != changed)

    def delete(self, which: int) -> None:
        user = self.user(which)
        if user is None:
            return
        was_there = user.linked and self.sandbox.user(user.clerk_id or "") is not None
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        answer = self.client.post(page, {"post": "yes"})
        self.judge(
            answer,
            here=lambda: not BuilderUser.objects.filter(pk=user.pk).exists(),
            clerk=lambda: self.sandbox.user(user.clerk_id or "") is None if was_there else None,
        )

    def judge(
        self,
        answer: Any,
        *,
        here: Callable[[], bool | None] = lambda: None,
        clerk: Callable[[], bool | None] = lambda: None,
    ) -> None:
        """Hold what was said against what is: `here` and `clerk` say whether each store has the
        change, None where it has no part in it."""
        require(answer.status_code in (200, 302), f"the server answered {answer.status_code}")
        said = list(get_messages(answer.wsgi_request))
        self.client.cookies.pop("messages", None)  # they are read now
        text = " ".join(map(str, said)) + (text_of(answer) if answer.status_code == 200 else "")
        has = [value for value in (here(), clerk()) if value is not None]
        if "not known yet" in text:
            require(SyncAttempt.objects.filter(status="started").exists(), "unknown, and not open")
        elif answer.status_code == 302 and any(message.level == SUCCESS for message in said):
            require(all(has), f"told that it was done, and it is not: {has}")
        else:
            require(not any(has), f"told that it was not done, and it was: {has} {text[:300]}")

    # --- What happens elsewhere --------------------------------------------------------------

    def name_in_clerk(self, user: BuilderUser) -> str | None:
        account = self.sandbox.user(user.clerk_id or "")
        return (
            names.join(account["first_name"] or "", account["last_name"] or "") if account else None
        )

    def _password_time(self, user: BuilderUser) -> Any:
        account = self.sandbox.user(user.clerk_id or "")
        return account and account["password_last_updated_at"]

    def edit_in_clerk(self, which: int) -> None:
        user = self.user(which)
        if user is not None and user.linked and self.sandbox.user(user.clerk_id or ""):
            self.sandbox.edit(user.clerk_id or "", last_name=f"Clerk{self.fresh()}")

    def delete_in_clerk(self, which: int) -> None:
        user = self.user(which)
        if user is not None and user.linked and self.sandbox.user(user.clerk_id or ""):
            self.sandbox.delete(user.clerk_id or "")

    def deliver(self, seed: int, share: float = 1.0) -> None:
        """Some of the events, in any order, some of them twice; the rest comes later."""
        chance = random.Random(seed)
        waiting = [*self.undelivered, *happened(self.sandbox)]
        chance.shuffle(waiting)
        now = waiting[: round(len(waiting) * share)]
        self.undelivered = waiting[len(now) :]
        for event in now + [event for event in now if chance.random() < 0.3]:
            answer = post(self.sandbox, event)
            require(answer.status_code == 200, f"the webhook answered {answer.status_code}")

    def recover(self) -> None:
        upkeep.run()

    # --- The end -----------------------------------------------------------------------------

    def finish(self, seed: int = 0) -> None:
        """Clerk is well again, all events arrive, recovery runs; then everything must be true."""
        self.sandbox.clear_faults()
        for _ in range(ROUNDS):
            self.deliver(seed)
            self.recover()
            self._decide_third_values()
            if self._quiet():
                break
        self.check()

    def _quiet(self) -> bool:
        """Whether nothing is left to arrive or to be settled."""
        self.undelivered += happened(self.sandbox)
        kept = WebhookDelivery.objects.filter(processed_at=None)
        still_open = SyncAttempt.objects.filter(status="started")
        return not (self.undelivered or kept.exists() or still_open.exists())

    def _decide_third_values(self) -> None:
        """What recovery cannot decide, as Clerk holds a third name, a person does."""
        for attempt in SyncAttempt.objects.filter(status="started", user__isnull=False):
            require(
                "third name" in attempt.message, f"open although Clerk answers: {attempt.message}"
            )
            page = reverse("admin:users_builderuser_take_over", args=[attempt.user_id])
            self.client.post(page)

    def check(self) -> None:
        still_open = SyncAttempt.objects.filter(status="started")
        require(not still_open, f"open: {[(one.operation, one.message) for one in still_open]}")
        for row in BuilderUser.objects.filter(clerk_id__isnull=False).select_related("account"):
            account = self.sandbox.user(row.clerk_id or "")
            if account is None:
                known = ClerkAccount.objects.filter(pk=row.clerk_id, deleted_at__isnull=False)
                require(known, f"{row} is deleted in Clerk, and nothing says so")
                continue
            in_clerk = self.name_in_clerk(row), _primary(account)
            require((names.squash(row.name), row.email) == in_clerk, f"{row}: {in_clerk} in Clerk")
        applied = SyncAttempt.objects.filter(status="applied").exclude(
            operation=Operation.FOLLOW, changes__has_any_keys=OF_THE_ACCOUNT
        )
        require(
            applied.count() == LogEntry.objects.count(),
            f"{applied.count()} applied attempts and {LogEntry.objects.count()} log entries",
        )
        for pk in BuilderUser.objects.values_list("pk", flat=True):
            logged = LogEntry.objects.filter(object_id=str(pk)).count()
            require(logged == applied.filter(user_id=pk).count(), f"{pk}: {logged} log entries")
        kept = WebhookDelivery.objects.filter(processed_at=None)
        require(not kept, f"kept: {[one.error for one in kept]}")


def _primary(account: dict[str, Any]) -> str:
    return next(
        email["email_address"]
        for email in account["email_addresses"]
        if email["id"] == account["primary_email_address_id"]
    )
