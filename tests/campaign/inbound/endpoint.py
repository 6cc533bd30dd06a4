"""The same histories, signed, through the real webhook into PostgreSQL."""

from __future__ import annotations

import random
import uuid
from typing import Any

from sandbox import Event, Sandbox
from tests.campaign.inbound.clerk import Told
from tests.campaign.inbound.history import EMAILS, ROWS, Phase, Story
from tests.campaign.inbound.office import Office
from tests.campaign.inbound.truths import Truths
from tests.support.events import arrive_together
from tests.support.factories import BuilderUserFactory
from tests.support.tables import Snapshot
from users.models import Agreement, BuilderUser, ClerkAccount
from users.sync.mirror import instance


class Endpoint:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        instance.remember(sandbox.instance_id, "development")
        self._empty = Snapshot()

    def check(self, story: list[Phase], rng: random.Random) -> None:
        """Tell a history without staff, and compare the ends."""
        one, truths = Story(), Truths()
        self._empty.restore()
        for number in range(3):
            one.office.add(ROWS[number], f"Row {number}", EMAILS[number], one.clerk.tick())
            BuilderUserFactory(pk=ROWS[number], name=f"Row {number}", email=EMAILS[number])
            BuilderUser.objects.filter(pk=ROWS[number]).update(created_at=one.clerk.now)
        for phase in story:
            for step in phase.steps:
                one.happen(step)
            told = one.clerk.go_out()
            rng.shuffle(told)
            one.tell(told, truths)
            waiting = [self._event(fact) for fact in told]
            while waiting:
                several = waiting[: rng.choice([1, 1, 2, 5])]
                waiting = waiting[len(several) :]
                arrive_together(self._sandbox, several)
        stored, modelled = _stored(), _modelled(one.office)
        assert stored == modelled, "\n".join([*one.log, str(stored), str(modelled)])

    def _event(self, told: Told) -> Event:
        kind = "user.deleted" if told.user is None else "user.updated"
        at = _milliseconds(told.at)
        payload = {
            "data": _user(told),
            "instance_id": self._sandbox.instance_id,
            "object": "event",
            "timestamp": at if told.user is None else at + 5,
            "type": kind,
        }
        return Event(f"msg_{uuid.uuid4().hex}", kind, payload, at)


def _user(told: Told) -> dict[str, Any]:
    user = told.user
    if user is None:
        return {"id": told.clerk_id, "object": "user", "deleted": True}
    status = "verified" if user.email_verified else "unverified"
    address = {
        "id": "idn_1", "object": "email_address", "email_address": user.email,
        "verification": {"status": status},
    }  # fmt: skip
    return {
        "id": user.id,
        "object": "user",
        "first_name": user.first_name,
        "last_name": user.last_name,
        "primary_email_address_id": "idn_1" if user.email else None,
        "email_addresses": [address] if user.email else [],
        "banned": user.banned,
        "public_metadata": dict(user.public_metadata),
        "created_at": _milliseconds(user.created_at),
        "updated_at": _milliseconds(user.updated_at),
        "last_sign_in_at": _milliseconds(user.last_sign_in_at),
    }


def _milliseconds(moment: Any) -> Any:
    return None if moment is None else int(moment.timestamp() * 1000)


def _stored() -> dict[str, Any]:
    agreements = Agreement.objects.in_bulk()
    return {
        "rows": {
            row.pk: (
                row.name, row.email, row.clerk_id,
                agreements[row.pk].linked_by if row.pk in agreements else "",
                agreements[row.pk].note if row.pk in agreements else "",
            )
            for row in BuilderUser.objects.all()
        },
        "notes": dict(ClerkAccount.objects.exclude(note="").values_list("pk", "note")),
    }  # fmt: skip


def _modelled(office: Office) -> dict[str, Any]:
    return {
        "rows": {
            row.id: (row.name, row.email, row.clerk_id, row.linked_by, row.note)
            for row in office.rows.values()
        },
        "notes": {one: note for one, note in office.notes.items() if note},
    }
