"""Values of changes as people read them: groups by name, and no character that acts on a
terminal."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from django.db.models import CharField, OuterRef, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from users.models import BuilderGroup
from users.validation import CONTROL

NOTHING = "—"


def visible(text: str) -> str:
    """Write control characters as escapes. A person can put them into their name in Clerk; on a
    terminal they would move the cursor or hide what stands before them."""
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown(value: Any) -> str:
    """A value of a change, for a table. Metadata is shown as JSON."""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    return NOTHING if value in (None, "") else visible(str(value))


def group_names(ids: Collection[str]) -> Mapping[str, str]:
    """Names of builder groups by their ids; a group that is deleted has none."""
    return {
        str(pk): name
        for pk, name in BuilderGroup.objects.filter(pk__in=ids).values_list("pk", "name")
    }


def with_group_names(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Add `group_before` and `group_after` to rows that have `changes`."""
    groups = BuilderGroup.objects.annotate(text_id=Cast("id", CharField()))
    return rows.annotate(
        group_before_id=KT("changes__builder_group__0"),
        group_after_id=KT("changes__builder_group__1"),
        group_before=Subquery(groups.filter(text_id=OuterRef("group_before_id")).values("name")),
        group_after=Subquery(groups.filter(text_id=OuterRef("group_after_id")).values("name")),
    )


def shown_changes(row: Any) -> list[tuple[str, str, str]]:
    """Field, before and after of each change of a row that `with_group_names` has read."""
    return [
        (
            field.replace("_", " "),
            shown((field == "builder_group" and row.group_before) or before),
            shown((field == "builder_group" and row.group_after) or after),
        )
        for field, (before, after) in row.changes.items()
    ]
