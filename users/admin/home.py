"""The home page: what needs a person, what this person did lately, and the health of Clerk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, ngettext_lazy

from users.admin.again import again_url
from users.admin.charts import Column, Stacked, bars
from users.admin.columns import opens_users
from users.admin.wanted import groups_of, wanted_of
from users.models import (
    Agreement,
    BuilderUser,
    BulkRun,
    ClerkAccount,
    RowStatus,
    RunStatus,
    Source,
    Status,
    SyncAttempt,
)
from users.sync.bulk.list_actions import title_of
from users.sync.bulk.results import counts_of
from users.sync.mirror import worker
from users.sync.mirror.health import MirrorStatus, status
from users.sync.mirror.overview import edits_by_day, moved_links, users_by_state
from users.sync.mirror.status import UserStatus
from users.sync.outbound import pending
from users.sync.services import unseen
from users.sync.services.invitations import expiring

MOST = 20
"""Changes that the home page shows at once. Dismissing one makes room for the next."""
DAYS = 30
SOON = timedelta(days=7)
PEOPLE = 8
RUNS, RUNS_SHOWN = 5, timedelta(days=14)
"""How many of a person's own bulk runs are shown, and for how long after their start."""
ENTRIES = 50
"""Entries of the log in which the last people are looked for."""

DESK = ("BuilderUser", "BuilderGroup", "Invitation")
"""The models that staff work with. All others are records for engineers."""
HIDDEN = ("procrastinate",)
"""Apps that the home page does not list."""

USER_STATES = {
    UserStatus.DIFFERS: ngettext_lazy(
        '<a href="{url}"><strong>{count}</strong> person</a> not matching Clerk',
        '<a href="{url}"><strong>{count}</strong> people</a> not matching Clerk',
    ),
    UserStatus.DELETED: ngettext_lazy(
        '<a href="{url}"><strong>{count}</strong> person</a> deleted in Clerk',
        '<a href="{url}"><strong>{count}</strong> people</a> deleted in Clerk',
    ),
    UserStatus.NOT_FOUND: ngettext_lazy(
        '<a href="{url}"><strong>{count}</strong> person</a> not found in Clerk',
        '<a href="{url}"><strong>{count}</strong> people</a> not found in Clerk',
    ),
    UserStatus.LOCKED: ngettext_lazy(
        '<a href="{url}"><strong>{count}</strong> person</a> locked after wrong passwords',
        '<a href="{url}"><strong>{count}</strong> people</a> locked after wrong passwords',
    ),
}


@dataclass(frozen=True)
class Told:
    """The outcome of one change, for its author."""

    attempt: SyncAttempt
    wanted: list[tuple[str, str]]
    user_url: str
    again_url: str

    @property
    def person(self) -> str:
        """Return the name that the user had then, as a link if the user is not deleted."""
        if not self.user_url:
            return self.attempt.label
        return format_html('<a href="{}">{}</a>', self.user_url, self.attempt.label)

    @property
    def saved(self) -> bool:
        """Return whether the change was applied."""
        return self.attempt.status == Status.APPLIED

    @property
    def certain(self) -> bool:
        """Return whether the outcome is certain."""
        return self.attempt.status != Status.UNPROVEN


@dataclass(frozen=True)
class OwnRun:
    """A bulk run of this person: how many of its changes were made, and how many were not."""

    run: BulkRun
    title: str
    counts: dict[str, int]

    @classmethod
    def of(cls, run: BulkRun) -> OwnRun:
        """Count the rows of a run."""
        return cls(run, title_of(run), counts_of(run))

    @property
    def result(self) -> str:
        """Return how the rows ended, for example “29 done, 1 skipped”."""
        return ", ".join(f"{count} {label.lower()}" for label, count in self.counts.items())

    @property
    def complete(self) -> bool:
        """Return whether every change was made."""
        return not self.counts.keys() - {RowStatus.DONE.label}

    @property
    def at_work(self) -> bool:
        """Return whether the run goes on by itself, so that what waits is still to be done."""
        return self.run.is_going


@dataclass(frozen=True)
class Attention:
    """Something that needs a person: how many of it there are, and the sentence with the link."""

    count: int
    sentence: str


def _attend(count: int, sentence: str, url: str) -> Attention:
    return Attention(count, format_html(sentence, count=count, url=url))


class ListedModel(TypedDict):
    """A model of Django's list, as far as it is read here."""

    object_name: str


class App(TypedDict):
    """An app of Django's list, as far as it is read here."""

    app_label: str
    models: list[ListedModel]


def boxes(request: HttpRequest, apps: Sequence[App]) -> dict[str, object]:
    """Return what the home page shows. Clerk is not asked.

    `apps` is Django's list of the models that this person may open.
    """
    may_view = opens_users(request)
    mirror = status() if may_view else None
    states = users_by_state() if may_view else {}
    return {
        "told": _told(request) if may_view else [],
        "mirror": mirror,
        "worker": worker.status() if may_view else None,
        "doubts": list(_doubts()[:MOST]) if may_view else [],
        "attention": [one for one in _attention(request, mirror, states) if one.count],
        "states": bars(
            [(str(state.label), count, _users(state)) for state, count in states.items()]
        ),
        "edits": _edits() if may_view else None,
        "zone": timezone.get_current_timezone_name(),
        "people": _recent_people(request) if may_view else [],
        "runs": [OwnRun.of(run) for run in _own_runs(request)[:RUNS]] if may_view else [],
        "desk": _models(apps, DESK),
        "records": [
            {**app, "models": models}
            for app in apps
            if app["app_label"] not in HIDDEN
            and (models := [one for one in app["models"] if one["object_name"] not in DESK])
        ],
    }


def _models(apps: Sequence[App], names: Sequence[str]) -> list[ListedModel]:
    found = {one["object_name"]: one for app in apps for one in app["models"]}
    return [found[name] for name in names if name in found]


def _users(state: UserStatus) -> str:
    return f"{reverse('admin:users_builderuser_changelist')}?clerk={state.value}"


def _attention(
    request: HttpRequest, mirror: MirrorStatus | None, states: Mapping[UserStatus, int]
) -> Iterator[Attention]:
    """List what may need a person, each only for people who may open it."""
    if request.user.has_perm("users.view_syncattempt"):
        changes = reverse("admin:users_syncattempt_changelist")
        count = pending.not_confirmed().count()
        yield _attend(
            count,
            ngettext(
                '<a href="{url}"><strong>{count}</strong> change</a> not confirmed by Clerk yet',
                '<a href="{url}"><strong>{count}</strong> changes</a> not confirmed by Clerk yet',
                count,
            ),
            f"{changes}?status__exact=started",
        )
        count = moved_links().count()
        yield _attend(
            count,
            ngettext(
                '<a href="{url}"><strong>{count}</strong> link</a> '
                "moved to another Clerk account in the last 7 days",
                '<a href="{url}"><strong>{count}</strong> links</a> '
                "moved to another Clerk account in the last 7 days",
                count,
            ),
            f"{changes}?link=moved",
        )
    for state, sentence in USER_STATES.items():
        count = states.get(state, 0)
        yield _attend(count, sentence % count, _users(state))
    if request.user.has_perm("users.view_invitation"):
        page = reverse("admin:users_invitation_changelist")
        count = expiring(timezone.now() + SOON).count()
        yield _attend(
            count,
            ngettext(
                '<a href="{url}"><strong>{count}</strong> invitation</a> '
                "not accepted yet, expiring within 7 days",
                '<a href="{url}"><strong>{count}</strong> invitations</a> '
                "not accepted yet, expiring within 7 days",
                count,
            ),
            f"{page}?status__exact=pending",
        )
    if mirror and request.user.has_perm("users.view_webhookdelivery"):
        page = reverse("admin:users_webhookdelivery_changelist")
        count = mirror.unusable
        yield _attend(
            count,
            ngettext(
                '<a href="{url}"><strong>{count}</strong> event</a> '
                "from Clerk that cannot be applied",
                '<a href="{url}"><strong>{count}</strong> events</a> '
                "from Clerk that cannot be applied",
                count,
            ),
            f"{page}?status=unusable",
        )
    if request.user.has_perm("users.view_clerkaccount"):
        page = reverse("admin:users_clerkaccount_changelist")
        count = ClerkAccount.objects.exclude(note="").count()
        yield _attend(
            count,
            ngettext(
                '<a href="{url}"><strong>{count}</strong> Clerk account</a> '
                "not linked, or not matching",
                '<a href="{url}"><strong>{count}</strong> Clerk accounts</a> '
                "not linked, or not matching",
                count,
            ),
            f"{page}?note__isempty=0",
        )


def _edits() -> Stacked:
    return Stacked(
        (_("Saved"), _("Not saved"), _("Not certain yet")),
        [Column(f"{day.date}", (day.saved, day.not_saved, day.open)) for day in edits_by_day(DAYS)],
    )


def _recent_people(request: HttpRequest) -> list[BuilderUser]:
    """List the users that this person changed last, the last one first."""
    assert request.user.pk is not None, "The admin shows the home page after the sign-in."
    entries = LogEntry.objects.filter(
        user_id=request.user.pk, content_type=ContentType.objects.get_for_model(BuilderUser)
    )
    latest = entries.order_by("-action_time").values_list("object_id", flat=True)[:ENTRIES]
    ids = list(dict.fromkeys(filter(None, latest)))[:PEOPLE]
    found = {str(user.pk): user for user in BuilderUser.objects.filter(pk__in=ids)}
    return [found[one] for one in ids if one in found]


def _own_runs(request: HttpRequest) -> QuerySet[BulkRun]:
    """Select the runs that this person began on a page, the last one first."""
    begun = BulkRun.objects.filter(
        actor_id=request.user.pk,
        source=Source.ADMIN,
        started_at__gt=timezone.now() - RUNS_SHOWN,
    )
    return begun.exclude(state=RunStatus.PLANNED).order_by("-pk")


def _doubts() -> QuerySet[Agreement]:
    """Select the rows for which it is in doubt which account belongs to them."""
    return Agreement.objects.exclude(note="").select_related("user").order_by("user__name", "pk")


def _told(request: HttpRequest) -> list[Told]:
    attempts = unseen.of(request.user).select_related("user").order_by("-id")[:MOST]
    groups = groups_of(attempts)
    return [
        Told(
            attempt,
            wanted_of(attempt, groups),
            attempt.user.get_absolute_url() if attempt.user else "",
            again_url(request, attempt) if attempt.status != Status.APPLIED else "",
        )
        for attempt in attempts
    ]
