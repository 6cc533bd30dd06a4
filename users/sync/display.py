"""Show values of changes to people: groups by name, control characters escaped."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Protocol, TypeVar, cast

from django.db.models import CharField, Model, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Cast
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from users.changes import StoredChanges
from users.models import BuilderGroup
from users.validation import CONTROL

NOTHING = "—"


def visible(text: str) -> str:
    """Escape the control characters of a text.

    A person can put them into their name in Clerk. On a terminal they would move the cursor or hide
    the text before them.
    """
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(value: object) -> str:
    """Format a value of a change for a table.

    Metadata becomes JSON, an empty value becomes a dash, and a truth value becomes yes or no.
    """
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return NOTHING if value in (None, "") else visible(str(value))


def time_text(moment: datetime, *, seconds: bool = False) -> str:
    """Format a time for a sentence: the day, the time of day, and UTC.

    A sentence may be stored, mailed, logged or printed, so the zone of its reader is not known
    here. The script of the pages (`times.js`) finds this format in texts and tooltips, and shows
    it in the viewer's zone.
    """
    time_of_day = "%H:%M:%S" if seconds else "%H:%M"
    return f"{moment.astimezone(UTC):%Y-%m-%d {time_of_day}} UTC"


FIELDS = {
    "name": gettext_lazy("name"),
    "email": gettext_lazy("email"),
    "role": gettext_lazy("role"),
    "internal_role": gettext_lazy("internal role"),
    "builder_group": gettext_lazy("builder group"),
    "clerk_id": gettext_lazy("clerk id"),
    "invitation": gettext_lazy("invitation"),
    "account": gettext_lazy("account"),
    "password": gettext_lazy("password"),
    "banned": gettext_lazy("banned"),
    "locked": gettext_lazy("locked"),
}
"""The words for the fields of changes. A key of metadata is its own word."""


def field_word(field: str) -> str:
    """Return the word for a field, as it stands in a sentence."""
    return str(FIELDS.get(field, field.replace("_", " ")))


def joined(words: Sequence[str]) -> str:
    """Join words by “and”."""
    return reduce(
        lambda first, second: _("{first} and {second}").format(first=first, second=second), words
    )


def group_names(ids: Collection[str]) -> Mapping[str, str]:
    """Map the ids of builder groups to their names. Deleted groups are left out."""
    return {
        str(pk): name
        for pk, name in BuilderGroup.objects.filter(pk__in=ids).values_list("pk", "name")
    }


_Row = TypeVar("_Row", bound=Model)


class _Changed(Protocol):
    """A row of `with_group_names`."""

    changes: StoredChanges
    group_before: str | None
    group_after: str | None


def with_group_names(rows: QuerySet[_Row]) -> QuerySet[_Row]:
    """Add `group_before` and `group_after` to rows that have `changes`.

    Both are names of builder groups; None for no group and for a deleted one.
    """
    groups = BuilderGroup.objects.annotate(text_id=Cast("id", CharField()))
    named = rows.annotate(
        group_before_id=KT("changes__builder_group__0"),
        group_after_id=KT("changes__builder_group__1"),
        group_before=Subquery(groups.filter(text_id=OuterRef("group_before_id")).values("name")),
        group_after=Subquery(groups.filter(text_id=OuterRef("group_after_id")).values("name")),
    )
    return cast("QuerySet[_Row]", named)


def shown_changes(changed: Model) -> list[tuple[str, str, str]]:
    """List field, before and after of each change, as people read them.

    The row must come from `with_group_names`.
    """
    row = cast("_Changed", changed)
    return [
        (
            field_word(field),
            shown((field == "builder_group" and row.group_before) or before),
            shown((field == "builder_group" and row.group_after) or after),
        )
        for field, (before, after) in row.changes.items()
    ]
