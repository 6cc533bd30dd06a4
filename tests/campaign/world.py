"""Both stores, edited by staff through the real pages and by others, and what must be true."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from sandbox import Sandbox
from tests.campaign import truths
from tests.campaign.history import History
from tests.campaign.meanwhile import in_background
from tests.campaign.told import Heard, Ledger, Said, Wish, require
from tests.support.change_form import form_of, page_of
from tests.support.events import happened, post
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from tests.support.unknown import minutes_pass, time_is_over
from users.clerk import names
from users.models import (
    BuilderUser,
    ClerkAccount,
    Invitation,
    SyncAttempt,
    WebhookDelivery,
)
from users.sync import maintenance
from users.sync.outbound.exchange import FRESH

TABLES = ("users_bulkrow", "users_syncattempt", "users_invitation", "users_webhookdelivery",
          "users_clerkaccount", "django_admin_log", "users", "builder_groups")  # fmt: skip
ROUNDS = 8
LONG = 10
"""Minutes after which recovery sends again whatever it still may."""

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

During = AbstractContextManager[Any]


class World:
    """A few users, two staff members, and all that happens elsewhere."""

    def __init__(self, sandbox: Sandbox, client: Client, other: Client) -> None:
        self.sandbox = sandbox
        self.staff = [client, other]
        for one in self.staff:
            one.raise_request_exception = False
        self._number = 0
        sandbox.reset()
        with connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")
        self.history = History(sandbox)
        self.ledger = Ledger()
        users = [linked(sandbox), linked(sandbox), BuilderUserFactory()]
        self.keys = [user.pk for user in users]
        self.opened = {user.pk: user for user in users}
        self.edited: dict[uuid.UUID, dict[str, Any]] = {}
        self.deleted_there: set[str] = set()
        self.elsewhere: dict[uuid.UUID, uuid.UUID] = {}
        """The group that another application gave a user, while nobody who saw it changed it."""
        self.undelivered: list[Any] = []
        happened(sandbox)
        self.look()

    def fresh(self) -> int:
        """Every value is used once: by it one sees whose change arrived."""
        self._number += 1
        return self._number

    def user(self, which: int) -> BuilderUser | None:
        found = BuilderUser.objects.filter(pk=self.keys[which % len(self.keys)])
        return found.select_related("builder_group").first()

    def linked_user(self, which: int) -> BuilderUser | None:
        user = self.user(which)
        return user if user is not None and user.linked else None

    def look(self) -> None:
        """Take in what the table holds, users that recovery or an event has made included."""
        self.history.look()
        truths.nobody_overwrote_another_application(self)
        self.keys += BuilderUser.objects.exclude(pk__in=self.keys).values_list("pk", flat=True)

    # --- What staff do -----------------------------------------------------------------------

    def submit(
        self,
        path: str,
        fields: dict[str, Any],
        wish: Wish,
        *,
        who: int = 0,
        during: During | None = None,
    ) -> Heard:
        """Post a form and judge the answer. `during` is what happens while it is saved."""
        before = wish.has()
        self.post_again = partial(self._post, path, {"token": str(uuid.uuid4()), **fields}, who)
        with during or nullcontext():
            heard = self.post_again()
        self.history.look()  # before somebody else, who acts meanwhile, deletes the user
        if during is not None:
            connection.close()  # it may be lost; a server looks at it after each request
        self.ledger.judge(wish, heard, before, disturbed=during is not None)
        return heard

    def _post(self, path: str, fields: dict[str, Any], who: int = 0) -> Heard:
        client = self.staff[who]
        heard = Heard.of(client.post(path, fields))
        client.cookies.pop("messages", None)  # they are read now
        return heard

    def act(
        self, deed: str, which: int, *, who: int = 0, during: During | None = None
    ) -> Heard | None:
        """Do one of the things that Clerk has to be told, if the user is there."""
        return {
            "edit": partial(self.edit, which),
            "ban": partial(self.ban, which, True),
            "unban": partial(self.ban, which, False),
            "replace_email": partial(self.replace_email, which),
            "set_password": partial(self.set_password, which),
            "create": partial(self.create, "create"),
            "invite": partial(self.create, "invite"),
            "delete": partial(self.delete, which),
        }[deed](who=who, during=during)

    def edit(
        self,
        which: int,
        *,
        stale: bool = False,
        grouped: bool = False,
        who: int = 0,
        during: During | None = None,
    ) -> Heard | None:
        """A new name, and perhaps a new group, on a form opened now or a while ago."""
        user = self.user(which)
        if user is None:
            return None
        fields: dict[str, Any] = {"name": f"Mary Ann Edited{self.fresh()}"}
        if grouped:
            fields["builder_group"] = BuilderGroupFactory().pk
        return self._edit(user, fields, stale=stale, who=who, during=during)

    def regroup(self, which: int, *, stale: bool = False, who: int = 0) -> None:
        """A change that Clerk need not know."""
        user = self.user(which)
        if user is not None:
            group = BuilderGroupFactory()
            self._edit(user, {"builder_group": group.pk}, stale=stale, who=who)

    def edit_again(self, which: int, *, who: int = 0) -> None:
        """The same values once more, as people do whom nobody has confirmed anything."""
        user = self.user(which)
        if user is not None and user.pk in self.edited:
            self._edit(user, self.edited[user.pk], who=who)

    def _edit(
        self,
        user: BuilderUser,
        fields: dict[str, Any],
        *,
        stale: bool = False,
        who: int = 0,
        during: During | None = None,
    ) -> Heard:
        shown = self.opened.get(user.pk, user) if stale else user
        if "builder_group" in fields and shown.builder_group_id == user.builder_group_id:
            self.elsewhere.pop(user.pk, None)  # it was seen
        unseen = "name" in fields and self._name_moved_unseen(user, fields["name"])
        self.edited[user.pk] = fields
        wish = self._wish_of_edit(user, fields)
        heard = self.submit(page_of(user), form_of(shown, **fields), wish, who=who, during=during)
        require(heard.said is not Said.SAVED or not unseen, "a name in Clerk was lost unseen")
        self.opened[user.pk] = BuilderUser.objects.filter(pk=user.pk).first() or user
        return heard

    def _wish_of_edit(self, user: BuilderUser, fields: dict[str, Any]) -> Wish:
        name, group = fields.get("name"), fields.get("builder_group")
        wanted = dict(fields)
        if group:
            wanted["builder_group_id"] = wanted.pop("builder_group")
        in_clerk: Callable[[], bool | None] = lambda: None  # noqa: E731
        if name and user.linked:
            in_clerk = lambda: self.name_in_clerk(user) == name  # noqa: E731
        return Wish(
            ("edit", name, str(group or "")),
            Q(changes__name__1=name) if name else Q(changes__builder_group__1=str(group)),
            lambda: int(
                bool(name and self.history.had("name", name))
                or (not name and self.history.row_had("builder_group", str(group)))
            ),
            here=lambda: BuilderUser.objects.filter(pk=user.pk, **wanted).exists(),
            in_clerk=in_clerk,
        )

    def _name_moved_unseen(self, user: BuilderUser, wanted: str) -> bool:
        """Whether Clerk holds a name that nobody here can know, and that a save must notice."""
        known = ClerkAccount.objects.filter(pk=user.clerk_id, seen_at__lt=Now() - 2 * FRESH)
        copy = known.first()
        there = self.name_in_clerk(user)
        if copy is None or there is None:
            return False
        return there not in (names.join(copy.first_name, copy.last_name), user.name, wanted)

    def create(self, account: str, *, who: int = 0, during: During | None = None) -> Heard:
        email = f"new{self.fresh()}@example.com"
        fields = {"name": "Mary Ann New", "email": email, "role": "BUILDER",
                  "internal_role": "", "builder_group": "", "account": account}  # fmt: skip
        in_clerk: Callable[[], bool | None] = lambda: None  # noqa: E731
        if account == "create":
            in_clerk = lambda: bool(self.sandbox.find(email))  # noqa: E731
        elif account == "invite":
            in_clerk = lambda: self._invited(email)  # noqa: E731
        wish = Wish(
            ("create", email),
            Q(changes__email__1=email),
            lambda: int(self.history.had("email", email) or self._invited(email)),
            here=lambda: BuilderUser.objects.filter(email=email).exists(),
            in_clerk=in_clerk,
        )
        return self.submit(
            reverse("admin:users_builderuser_add"), fields, wish, who=who, during=during
        )

    def _invited(self, email: str) -> bool:
        return any(sent["email_address"] == email for sent in self.sandbox.invitations())

    def replace_email(
        self, which: int, *, who: int = 0, during: During | None = None
    ) -> Heard | None:
        user = self.linked_user(which)
        if user is None:
            return None
        email = f"moved{self.fresh()}@example.com"
        wish = Wish(
            ("replace", email),
            Q(changes__email__1=email),
            lambda: int(self.history.had("email", email)),
            here=lambda: BuilderUser.objects.filter(pk=user.pk, email=email).exists(),
            in_clerk=lambda: bool(self.sandbox.find(email)),
        )
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        return self.submit(page, {"email": email, "how": "replace"}, wish, who=who, during=during)

    def set_password(
        self, which: int, *, who: int = 0, during: During | None = None
    ) -> Heard | None:
        user = self.linked_user(which)
        if user is None:
            return None
        clerk_id = user.clerk_id or ""
        before = self.history.passwords(clerk_id)
        password = f"correct horse {self.fresh()}"
        wish = Wish(
            ("password", clerk_id),
            Q(operation="set_password", clerk_id=clerk_id),
            lambda: self.history.passwords(clerk_id),
            in_clerk=lambda: self.history.passwords(clerk_id) > before,
        )
        page = reverse("admin:users_builderuser_password", args=[user.pk])
        fields = {"password1": password, "password2": password}
        return self.submit(page, fields, wish, who=who, during=during)

    def ban(
        self, which: int, banned: bool, *, who: int = 0, during: During | None = None
    ) -> Heard | None:
        user = self.linked_user(which)
        if user is None:
            return None
        clerk_id, deed = user.clerk_id or "", "ban" if banned else "unban"
        wish = Wish(
            (deed, clerk_id),
            Q(operation=deed, clerk_id=clerk_id),
            lambda: self.history.bans(clerk_id, banned),
            in_clerk=lambda: (self.sandbox.user(clerk_id) or {}).get("banned") is banned,
        )
        page = reverse(f"admin:users_builderuser_{deed}", args=[user.pk])
        return self.submit(page, {}, wish, who=who, during=during)

    def delete(self, which: int, *, who: int = 0, during: During | None = None) -> Heard | None:
        user = self.user(which)
        if user is None:
            return None
        clerk_id = user.clerk_id or ""
        gone_here = lambda: not BuilderUser.objects.filter(pk=user.pk).exists()  # noqa: E731
        gone_there = lambda: bool(clerk_id) and self.sandbox.user(clerk_id) is None  # noqa: E731
        was_there = bool(clerk_id) and not gone_there()
        wish = Wish(
            ("delete", user.pk),
            Q(operation="delete", changes__email__0=user.email),
            lambda: int(gone_here() or (gone_there() and clerk_id not in self.deleted_there)),
            here=gone_here,
            in_clerk=lambda: gone_there() if was_there else None,
        )
        page = reverse("admin:users_builderuser_delete", args=[user.pk])
        return self.submit(page, {"post": "yes"}, wish, who=who, during=during)

    def click_twice(self, which: int, deed: str, step: str) -> None:
        """The second click is on its way while the first is being saved, with the same token."""
        second: list[Heard] = []
        # Not what follows from the answer: a name that was changed in Clerk before.
        clicks = SyncAttempt.objects.exclude(operation="follow")
        counted = clicks.exclude(status__in=["refused", "dropped"])
        before = list(counted.values_list("pk", flat=True))
        click = in_background(step, lambda: second.append(self.post_again()))
        first = self.act(deed, which, during=click)
        if first is not None:
            heard = [first, *second]
            # A deletion may revoke an invitation before: that is another operation.
            made = Counter(counted.exclude(pk__in=before).values_list("operation", flat=True))
            require(max(made.values(), default=0) <= 1, f"two clicks made {made}: {heard}")
            ends = {one.said for one in heard if "Perhaps it was deleted?" not in one.text}
            ends -= {Said.NOT_CONFIRMED}
            require(len(ends) <= 1, f"two clicks were told different things: {heard}")

    def use_clerks_version(self, which: int) -> None:
        user = self.linked_user(which)
        if user is None:
            return
        page = reverse("admin:users_builderuser_take_over", args=[user.pk])
        heard = self._post(page, {})
        if heard.said is Said.SAVED:
            row = BuilderUser.objects.get(pk=user.pk)
            require(truths.is_same(row, self.sandbox), f"{row} does not have Clerk's version")
            pending = SyncAttempt.objects.filter(user=row, status="started")
            require(not pending, "a change is pending after Clerk's version was used")

    # --- What happens elsewhere --------------------------------------------------------------

    def name_in_clerk(self, user: BuilderUser) -> str | None:
        account = self.sandbox.user(user.clerk_id or "")
        return (
            names.join(account["first_name"] or "", account["last_name"] or "") if account else None
        )

    def edit_in_clerk(self, which: int) -> None:
        user = self.linked_user(which)
        if user is not None and self.sandbox.user(user.clerk_id or ""):
            self.sandbox.edit(user.clerk_id or "", last_name=f"Clerk{self.fresh()}")

    def delete_in_clerk(self, which: int) -> None:
        user = self.linked_user(which)
        if user is not None and self.sandbox.user(user.clerk_id or ""):
            self.deleted_there.add(user.clerk_id or "")
            self.sandbox.delete(user.clerk_id or "")

    def regroup_elsewhere(self, which: int) -> None:
        """Another application writes the same table."""
        user = self.user(which)
        if user is not None:
            group = self.elsewhere[user.pk] = BuilderGroupFactory().pk
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE users SET builder_group_id = %s WHERE id = %s", [group, user.pk]
                )

    def deliver(self, seed: int, share: float = 1.0) -> None:
        """Some of the events, in any order, some of them twice; the rest comes later."""
        chance = random.Random(seed)
        waiting = [*self.undelivered, *happened(self.sandbox)]
        chance.shuffle(waiting)
        now = waiting[: round(len(waiting) * share)]
        self.undelivered = waiting[len(now) :]
        for event in now + [event for event in now if chance.random() < 0.3]:
            answer = post(self.sandbox, event, client=self.staff[0])
            require(answer.status_code == 200, f"the webhook answered {answer.status_code}")

    def late_requests_end(self, *, arrive: bool) -> None:
        """What is under way reaches Clerk, or is lost."""
        if arrive:
            self.sandbox.apply_late()
        else:
            self.sandbox.drop_late()

    def time_passes(self, minutes: float, *, arrive: bool) -> None:
        """No request is under way for longer than its attempt allows: each ends before."""
        self.late_requests_end(arrive=arrive)
        minutes_pass(minutes)
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE users_clerkaccount SET seen_at = seen_at - %s * interval '1 minute'",
                [minutes],
            )

    def recover(self) -> None:
        maintenance.run()

    # --- The end -----------------------------------------------------------------------------

    def finish(self, seed: int = 0) -> None:
        """Clerk is well again, everything arrives, and time passes until nothing is left to do;
        then everything must be true."""
        self.sandbox.clear_faults()
        self.late_requests_end(arrive=True)
        for _ in range(ROUNDS):
            self.deliver(seed)
            time_is_over(minutes=LONG)
            Invitation.objects.filter(send_after__isnull=False).update(send_after=LONG_AGO)
            self.recover()
            self._decide()
            if self._is_quiet():
                break
        self.look()
        truths.check(self)
        self.ledger.check()

    def _is_quiet(self) -> bool:
        """Whether nothing is left to arrive or to be resolved."""
        self.undelivered += happened(self.sandbox)
        kept = WebhookDelivery.objects.filter(processed_at=None)
        pending = SyncAttempt.objects.filter(status="started")
        return not (self.undelivered or kept.exists() or pending.exists())

    def _decide(self) -> None:
        """What recovery cannot decide a person does, with the words that they read."""
        for attempt in SyncAttempt.objects.filter(status="started", user__isnull=False):
            if "Clerk's version" in attempt.message:
                page = reverse("admin:users_builderuser_take_over", args=[attempt.user_id])
                self._post(page, {})
