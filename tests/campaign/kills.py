"""A real server process is killed, or loses its database, at each named step of a save; recovery
tells the truth."""

from __future__ import annotations

import html
import re
import time
import uuid
from collections.abc import Callable
from enum import Enum
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from django.test import Client
from django.urls import reverse

from sandbox import Sandbox
from tests.campaign.told import require
from tests.campaign.world import LONG, World
from tests.support.change_form import form_of, page_of
from tests.support.patience import PATIENCE
from tests.support.server import serving
from tests.support.unknown import time_is_over
from users.models import BuilderUser, SyncAttempt
from users.sync.outbound import checkpoints

Request = tuple[str, dict[str, str]]
Operation = Callable[[World], Request]


def run(sandbox: Sandbox, client: Client, other: Client, *, kills: int) -> int:
    """Kill that many times at each step, and lose the database as often, the operations in turn.
    Gives how many processes died."""
    application = "tests.campaign.server:application"
    environment = {
        "CLERK_API_URL": sandbox.url,
        "CLERK_SECRET_KEY": sandbox.secret_key,
        "GUNICORN_CMD_ARGS": "--preload",  # the next process is there at once
    }
    died = 0
    with serving(application, **environment) as port:
        for number in range(kills):
            for place, step in enumerate(checkpoints.STEPS):
                # Shifted by one each round: any four rounds kill every operation at every step.
                operation = OPERATIONS[(number + place) % len(OPERATIONS)]
                died += _kill(World(sandbox, client, other), port, step, operation)
                _lose_backend(World(sandbox, client, other), port, step, operation)
    return died


def _kill(world: World, port: int, step: str, operation: Operation) -> bool:
    """Kill the server in the request, and recover. It dies of it and says nothing."""
    try:
        status, _ = _posted(world, port, operation(world), {"X-Kill-At": step})
    except (HTTPException, OSError) as error:
        require(not isinstance(error, TimeoutError), f"it neither died at “{step}” nor answered")
    else:
        require(False, f"the server outlived “{step}” and answered {status}")
    _recovered(world)
    _ended_as_it_must(f"killed at “{step}”", world, operation, KILLED[step])
    world.finish()
    return True


def _lose_backend(world: World, port: int, step: str, operation: Operation) -> None:
    """The database ends the connection of the request; what it answers must stay true."""
    status, text = _posted(world, port, operation(world), {"X-Lose-Backend-At": step})
    at = f"without its backend from “{step}” on"
    require(status in (200, 302, 500, 503), f"{at}, the server answered {status}")
    _recovered(world)
    _ended_as_it_must(at, world, operation, WITHOUT_BACKEND[step])
    applied = SyncAttempt.objects.filter(status="applied").exists()
    require(applied or "success" not in text, f"{at}, it said that it was saved: {text}")
    require(not applied or "Nothing was" not in text, f"{at}, it said that it was not: {text}")
    world.finish()


def _posted(world: World, port: int, request: Request, headers: dict[str, str]) -> tuple[int, str]:
    """Post the form; give the status, and what the answer and the page after it say."""
    path, fields = request
    client = world.staff[0]
    client.get(path)
    token = client.cookies["csrftoken"].value
    cookies = f"sessionid={client.cookies['sessionid'].value}; csrftoken={token}"
    headers |= {"Content-Type": "application/x-www-form-urlencoded", "Cookie": cookies}
    body = urlencode(fields | {"csrfmiddlewaretoken": token, "token": str(uuid.uuid4())})
    connection = _connected(port)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        page = answer.read().decode()
        if answer.status == 302:
            messages = SimpleCookie("".join(answer.headers.get_all("Set-Cookie", [])))
            if "messages" in messages:
                cookies += f"; messages={messages['messages'].coded_value}"
            connection.request("GET", answer.headers["Location"], headers={"Cookie": cookies})
            page = connection.getresponse().read().decode()
        return answer.status, _words_of(page)
    finally:
        connection.close()


def _words_of(page: str) -> str:
    """The messages and errors of a page, with their classes."""
    lists = re.findall(r'<ul class="(?:messagelist|errorlist).*?</ul>', page, re.DOTALL)
    return html.unescape(" ".join(lists))


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
        time_is_over(minutes=LONG)
        world.recover()
        require(time.monotonic() < end, "the attempt of a dead process stays pending")


def _ended_as_it_must(what: str, world: World, operation: Operation, end: End) -> None:
    expected = {
        End.NEVER_BEGUN: [],
        End.NOT_SENT: ["applied" if operation in SENT_AGAIN else "dropped"],
        End.SENT: ["applied"],
    }[end]
    ends = list(SyncAttempt.objects.values_list("status", flat=True))
    require(ends == expected, f"{what} it ended as {ends}")
    here = set(BuilderUser.objects.exclude(clerk_id=None).values_list("clerk_id", flat=True))
    in_clerk = {account["id"] for account in world.sandbox.users()}
    require(here == in_clerk, f"{what}, an account is on one side alone")


class End(Enum):
    NEVER_BEGUN = "no attempt"
    NOT_SENT = "Clerk was never told: recovery sends it again, or drops it"
    SENT = "Clerk has it: recovery finishes it"


KILLED = {
    checkpoints.BEFORE_ATTEMPT: End.NEVER_BEGUN,
    checkpoints.AFTER_ATTEMPT: End.NOT_SENT,
    checkpoints.BEFORE_CALL: End.NOT_SENT,
    checkpoints.AFTER_CALL: End.SENT,
    checkpoints.BEFORE_COMMIT: End.SENT,
    checkpoints.AFTER_COMMIT: End.SENT,
}
WITHOUT_BACKEND = KILLED | {checkpoints.BEFORE_CALL: End.SENT}
"""A process that lives calls Clerk, whether or not it still has its locks."""


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


SENT_AGAIN = (_update,)
OPERATIONS = (_update, _replace_email, _create, _delete)
