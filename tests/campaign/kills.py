"""A real server process is killed at each named step of a save; recovery tells the truth."""

from __future__ import annotations

import time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

from django.test import Client
from django.urls import reverse

from bench.server import serving
from sandbox import Sandbox
from tests.campaign.told import require
from tests.campaign.world import World
from tests.patience import PATIENCE
from tests.test_change_form import form_of, page_of
from users.models import BuilderUser, SyncAttempt
from users.sync import steps

Request = tuple[str, dict[str, str]]


def run(sandbox: Sandbox, client: Client, other: Client, *, kills: int) -> int:
    """Kill that many times at each step, the operations in turn; gives how many died."""
    application = "tests.campaign.server:application"
    environment = {
        "CLERK_API_URL": sandbox.url,
        "CLERK_SECRET_KEY": sandbox.secret_key,
        "GUNICORN_CMD_ARGS": "--preload",  # the next process is there at once
    }
    died = 0
    with serving(application, **environment) as port:
        for number in range(kills):
            for place, step in enumerate(steps.STEPS):
                # Shifted by one each round: any four rounds kill every operation at every step.
                operation = OPERATIONS[(number + place) % len(OPERATIONS)]
                world = World(sandbox, client, other)
                died += _killed(port, client, step, operation(world))
                _recovered(world)
                _ended_as_it_must(world, step)
                world.finish()
    return died


def _killed(port: int, client: Client, step: str, request: Request) -> bool:
    """Post the form; whether the server died of it, and said nothing."""
    path, fields = request
    client.get(path)
    token = client.cookies["csrftoken"].value
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"sessionid={client.cookies['sessionid'].value}; csrftoken={token}",
        "X-Kill-At": step,
    }
    body = urlencode(fields | {"csrfmiddlewaretoken": token})
    connection = _connected(port)
    try:
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except TimeoutError:
        require(False, f"the server neither died at “{step}” nor answered")
    except (HTTPException, OSError):
        return True
    finally:
        connection.close()
    require(False, f"the server outlived “{step}” and answered {status}")
    return False


def _connected(port: int) -> HTTPConnection:
    """gunicorn starts another process for the dead one; until then nobody accepts."""
    end = time.monotonic() + PATIENCE
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/healthz/")
            connection.getresponse().read()
            return connection
        except (HTTPException, OSError):
            connection.close()
            require(time.monotonic() < end, "the server does not come back")


def _recovered(world: World) -> None:
    """PostgreSQL takes a moment to see that its client is dead, and lets go of the row."""
    end = time.monotonic() + PATIENCE
    while SyncAttempt.objects.filter(status="started").exists():
        world.recover()
        require(time.monotonic() < end, "the attempt of a dead process stays open")


ENDS = {
    steps.BEFORE_ATTEMPT: [],
    steps.AFTER_ATTEMPT: ["dropped"],
    steps.BEFORE_CALL: ["dropped"],
    steps.AFTER_CALL: ["applied"],
    steps.BEFORE_COMMIT: ["applied"],
    steps.AFTER_COMMIT: ["applied"],
}
"""What becomes of the attempt: Clerk has the change from `AFTER_CALL` on."""


def _ended_as_it_must(world: World, step: str) -> None:
    ends = list(SyncAttempt.objects.values_list("status", flat=True))
    require(ends == ENDS[step], f"killed at “{step}” it ended as {ends}")
    here = set(BuilderUser.objects.exclude(clerk_id=None).values_list("clerk_id", flat=True))
    in_clerk = {account["id"] for account in world.sandbox.users()}
    require(here == in_clerk, f"killed at “{step}”, an account is on one side alone")


def _update(world: World) -> Request:
    user = BuilderUser.objects.get(pk=world.keys[0])
    return page_of(user), form_of(user, name=f"Mary Ann Killed{world.fresh()}")


def _replace_email(world: World) -> Request:
    page = reverse("admin:users_builderuser_email", args=[world.keys[0]])
    return page, {"email": "killed@example.com", "how": "replace"}


def _create(world: World) -> Request:
    return reverse("admin:users_builderuser_add"), {
        "name": "Mary Ann New", "email": "created@example.com", "role": "BUILDER",
        "internal_role": "", "builder_group": "", "account": "create",
    }  # fmt: skip


def _delete(world: World) -> Request:
    return reverse("admin:users_builderuser_delete", args=[world.keys[0]]), {"post": "yes"}


OPERATIONS = (_update, _replace_email, _create, _delete)
