"""Events of the sandbox, posted to the webhook as Clerk would."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test import Client

from sandbox import Event, Sandbox
from tests.support.patience import PATIENCE, wait_until
from users.sync.inbound import deliveries

URL = "/webhooks/clerk/"
_told: dict[int, str] = {}
"""The last event of each sandbox that `happened` gave."""


def post(sandbox: Sandbox, event: Event, *, client: Client | None = None, **signing):
    body, headers = sandbox.webhooks.signed(event, **signing)
    content_type = headers.pop("Content-Type")
    return (client or Client()).post(URL, body, content_type=content_type, headers=headers)


@contextmanager
def mistaken() -> Iterator[None]:
    """A mistake of ours, while somebody decides what follows from an event."""

    def mistake(group, *, now):
        raise ZeroDivisionError("somebody's name")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("users.sync.inbound.reconcile.derive", mistake)
        yield


def happened(sandbox: Sandbox) -> list[Event]:
    """The events since the last call, and so what is to be delivered next."""
    events = sandbox.webhooks.events
    ids = [event.id for event in events]
    last = _told.get(id(sandbox))
    if events:
        _told[id(sandbox)] = ids[-1]
    return events[ids.index(last) + 1 :] if last in ids else events


def arrive(sandbox: Sandbox) -> list[str]:
    """What happened in Clerk reaches us, in order; gives the answers."""
    answers = []
    for event in happened(sandbox):
        response = post(sandbox, event)
        assert response.status_code == 200, response.content
        answers.append(response.content.decode().strip())
    return answers


def arrive_together(sandbox: Sandbox, events: Sequence[Event]) -> list[str]:
    """These events arrive while another one is being applied; gives the answers."""

    def deliver(event: Event) -> str:
        try:
            response = post(sandbox, event)
        finally:
            connection.close()
        assert response.status_code == 200, response.content
        return response.content.decode().strip()

    arriving = deliveries.arriving
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(events)) as pool:
        patch.setattr(deliveries, "LOCK_SECONDS", int(PATIENCE))
        with arriving._turn:
            answers = [pool.submit(deliver, event) for event in events]
            wait_until(
                lambda: len(arriving._waiting) == len(events) or any(one.done() for one in answers),
                "not all events wait",
            )
        return [answer.result() for answer in answers]


def at_once(sandbox, events, threads=8):
    """Deliver these events from several connections at the same time; gives the answers."""
    gate = threading.Barrier(min(threads, len(events)))

    def deliver(part):
        gate.wait(PATIENCE)
        try:
            return [post(sandbox, event).status_code for event in part]
        finally:
            connection.close()

    parts = [events[number::threads] for number in range(threads) if events[number::threads]]
    with ThreadPoolExecutor(len(parts)) as pool:
        return [status for part in pool.map(deliver, parts) for status in part]
