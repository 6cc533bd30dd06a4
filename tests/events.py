"""Events of the sandbox, posted to the webhook as Clerk would."""

from __future__ import annotations

from django.test import Client

from sandbox import Event, Sandbox

URL = "/webhooks/clerk/"


def post(sandbox: Sandbox, event: Event, **signing):
    body, headers = sandbox.webhooks.signed(event, **signing)
    content_type = headers.pop("Content-Type")
    return Client().post(URL, body, content_type=content_type, headers=headers)


def happened(sandbox: Sandbox) -> list[Event]:
    """The events since the last call, and so what is to be delivered next."""
    events = list(sandbox.webhooks.events)
    sandbox.webhooks.events.clear()
    return events


def arrive(sandbox: Sandbox) -> list[str]:
    """What happened in Clerk reaches us, in order; gives the answers."""
    answers = []
    for event in happened(sandbox):
        response = post(sandbox, event)
        assert response.status_code == 200, response.content
        answers.append(response.content.decode().strip())
    return answers
