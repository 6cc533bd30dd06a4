"""A database that hangs: its process is stopped, so that it neither answers nor hangs up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from django.db import connection

from cascade.database import current_limit, waiting_at_most
from tests.support.burst import asked
from tests.support.change_form import in_clerk, said, stored, submit, text_of
from tests.support.events import happened, post
from tests.support.factories import linked
from tests.support.interruptions import at_step, elsewhere, recover, the_attempt
from tests.support.patience import PATIENCE, deadline_for, wait_until
from tests.support.server import serving
from users.models import WebhookDelivery
from users.sync.mirror import store
from users.sync.outbound import checkpoints

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        bool(os.environ.get("DATABASE_URL")),
        reason="only the processes of the embedded PostgreSQL are ours to stop",
    ),
]

LIST = "/admin/users/builderuser/"


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes of PostgreSQL hang meanwhile. A watchdog lets them go on when nothing else would
    end the test, which fails then because its request was answered."""
    watchdog = threading.Timer(PATIENCE, go_on, pids)
    watchdog.start()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        watchdog.cancel()
        go_on(*pids)


def go_on(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def own_backend() -> int:
    connection.ensure_connection()
    return connection.connection.info.backend_pid


def other_backends() -> list[int]:
    """The processes that answer other connections to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def waiting_for_a_lock() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def postmaster() -> int:
    """The process that takes new connections."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        [folder] = cursor.fetchone()
    return int(Path(folder, "postmaster.pid").read_text().splitlines()[0])


@pytest.fixture(autouse=True)
def _next_connection(transactional_db) -> Iterator[None]:
    """As after a request, which the client of the tests leaves out."""
    yield
    connection.close()


@pytest.fixture
def wait(client, settings) -> float:
    """The limit, short enough for a test and far above what a page takes."""
    settings.DATABASE_WAIT_SECONDS = deadline_for(lambda: client.get(LIST), at_least=2.0)
    return settings.DATABASE_WAIT_SECONDS


def test_a_page_ends_at_the_limit_and_the_next_one_has_a_new_connection(client, sandbox, wait):
    linked(sandbox)
    with stopped(own_backend()):
        page = client.get(LIST)
        assert (page.status_code, "not available" in text_of(page)) == (503, True)
        assert client.get(LIST).status_code == 200


def test_a_delivery_ends_at_the_limit_and_comes_again(sandbox, wait):
    user = linked(sandbox)
    happened(sandbox)
    sandbox.edit(user.clerk_id, last_name="Jones")
    [event] = happened(sandbox)
    with stopped(own_backend()):
        assert post(sandbox, event).status_code == 503
        assert not WebhookDelivery.objects.exists()
        assert post(sandbox, event).status_code == 200
    assert stored(user).name == "Mary Ann Jones"


def test_the_health_page_ends_at_the_limit(client, wait):
    with stopped(own_backend()):
        response = client.get("/readyz/")
    assert (response.status_code, response.content) == (503, b"database: does not answer\n")


@pytest.fixture
def long_last_words(monkeypatch) -> None:
    """A slow machine must not keep the page from telling the end."""
    monkeypatch.setattr("cascade.database.LAST_WORDS", PATIENCE)


def test_a_commit_without_an_answer_is_told_as_unknown(client, sandbox, wait, long_last_words):
    user = linked(sandbox)
    hanging = []
    with ExitStack() as stack:

        def hang() -> None:
            hanging.append(own_backend())
            stack.enter_context(stopped(*hanging))

        with at_step(checkpoints.BEFORE_COMMIT, hang):
            page = submit(client, user, name="Mary Ann Jones")
        assert "but the database did not confirm it" in text_of(page)
        assert the_attempt().status == "started"
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
    wait_until(lambda: not set(hanging) & set(other_backends()), "the backend did not end")
    recover()
    assert stored(user).name == "Mary Ann Jones"
    assert the_attempt().status == "applied"


def test_a_request_before_clerk_was_asked_changes_nothing(client, sandbox, wait):
    user = linked(sandbox)
    with ExitStack() as stack:

        def hang() -> None:
            stack.enter_context(stopped(own_backend()))

        with at_step(checkpoints.BEFORE_ATTEMPT, hang):
            page = submit(client, user, name="Mary Ann Jones")
        assert page.status_code == 503
        assert said(page) == []
    assert stored(user).name == user.name
    assert in_clerk(sandbox, user) == ("Mary Ann", "Smith")


def test_long_waits_of_a_request_count_together(db):
    with waiting_at_most(60), connection.cursor() as cursor:
        left = current_limit()
        cursor.execute("SELECT pg_sleep(1.1)")
    assert left
    with left.waiting() as first:
        pass
    assert first <= 60 - 1.1


def test_work_outside_of_requests_waits_without_a_limit(db, settings):
    settings.DATABASE_WAIT_SECONDS = 0.1
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(1.1)")


class TestRealServer:
    @pytest.fixture
    def environment(self, sandbox, wait):
        return {
            "CLERK_WEBHOOK_SIGNING_SECRET": sandbox.webhooks.secret,
            "CLERK_EDIT_DEADLINE": "0.5",
            "DATABASE_WAIT_SECONDS": str(wait),
        }

    def test_a_backend_that_hangs_while_a_delivery_waits_for_a_lock(self, sandbox, environment):
        """A stopped backend's own limits, `lock_timeout` among them, do not end the wait."""
        user = linked(sandbox)
        happened(sandbox)
        sandbox.edit(user.clerk_id, last_name="Jones")
        [event] = happened(sandbox)
        answers = []
        with serving(**environment) as port:

            def deliver():
                answers.append(asked(port, *sandbox.webhooks.signed(event)))

            sending = threading.Thread(target=deliver)
            with elsewhere(store.lock):
                sending.start()
                wait_until(waiting_for_a_lock, "the delivery waits for no lock")
                with stopped(*waiting_for_a_lock()):
                    sending.join()
            assert answers == [(503, "the database does not answer; send it again\n")]
            wait_until(lambda: not waiting_for_a_lock(), "the backend did not end")
            assert asked(port, *sandbox.webhooks.signed(event)) == (200, "ok\n")
        assert stored(user).name == "Mary Ann Jones"

    def test_idle_connections_that_hang_are_replaced(self, sandbox, environment):
        sandbox.add_user(email="ann@example.com")
        [event] = happened(sandbox)[-1:]
        # The limit of the request is not what ends the wait for an idle connection.
        with serving(**environment | {"DATABASE_WAIT_SECONDS": str(PATIENCE)}) as port:
            body, headers = sandbox.webhooks.signed(event)
            assert asked(port, body, headers)[0] == 200
            with stopped(*other_backends()):
                assert asked(port, body, headers) == (200, "ok\n")

    def test_a_whole_server_that_hangs(self, sandbox, environment):
        sandbox.add_user(email="ann@example.com")
        [event] = happened(sandbox)[-1:]
        with serving(**environment) as port:
            body, headers = sandbox.webhooks.signed(event)
            assert asked(port, body, headers)[0] == 200
            with stopped(postmaster(), *other_backends()):
                assert asked(port, body, headers)[0] == 503
                assert asked(port, body, headers)[0] == 503
            wait_until(lambda: asked(port, body, headers)[0] == 200, "it did not come back")
