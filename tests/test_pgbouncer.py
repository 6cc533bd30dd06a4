"""Behind pgbouncer in transaction mode: the same stories, each transaction on any connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connection, connections

from tests.support.change_form import in_clerk, stored, submit
from tests.support.commands import run
from tests.support.factories import change_here, linked
from tests.support.interruptions import abandoned
from tests.support.pgbouncer import pooling
from users.models import SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pgbouncer(transactional_db) -> Iterator[None]:
    """Django's connections go through a pgbouncer that has two for all of them."""
    direct = connection.settings_dict
    original = dict(direct)
    with pooling(direct["NAME"], direct["USER"]) as port:
        connections["default"].close_pool()
        direct.update({"HOST": "127.0.0.1", "PORT": str(port)})
        connection.close()
        try:
            yield
        finally:
            connection.close()
            connections["default"].close_pool()
            direct.update(original)


def test_a_save_a_list_and_a_recovery(pgbouncer, client, sandbox):
    users = [linked(sandbox) for _ in range(3)]
    for user in users:
        assert submit(client, user, name="Mary Ann Jones").status_code == 302
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
    assert client.get("/admin/users/builderuser/").status_code == 200
    user = stored(users[0])
    abandoned(user, to="Mary Ann Brown")
    sandbox.edit(user.clerk_id, last_name="Brown")
    call_command("clerk_recover", "--json")
    assert stored(user).name == "Mary Ann Brown"
    assert not SyncAttempt.objects.filter(status="started").exists()


def test_bulk_work_and_a_check(pgbouncer, sandbox):
    """The lock of bulk work is held although every statement may go through another connection."""
    user = linked(sandbox)
    change_here(user, name="Mary Ann Jones")
    code, out = run("clerk_push", "--apply", "--rate", "1000")
    assert code == 0, out
    assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
    code, out = run("clerk_check")
    assert code == 0, out
    assert "behind a pooler in transaction mode" in out
