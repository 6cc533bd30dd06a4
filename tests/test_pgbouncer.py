"""Behind pgbouncer in transaction mode: the same stories, each transaction on any connection."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection, connections

from tests.support.change_form import in_clerk, stored, submit
from tests.support.commands import run
from tests.support.factories import change_here, linked
from tests.support.interruptions import abandoned
from tests.support.patience import wait_until
from users.models import SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def pgbouncer(transactional_db) -> Iterator[None]:
    """Django's connections go through a pgbouncer that has two for all of them."""
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.fail("No pgbouncer: run `make pgbouncer`.")
    direct = connection.settings_dict
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        config = folder / "pgbouncer.ini"
        host = direct["HOST"] or "127.0.0.1"
        config.write_text(
            f"[databases]\n{direct['NAME']} = host={host} port={direct['PORT'] or 5432}"
            f" dbname={direct['NAME']} user={direct['USER']}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        command = [found, str(config)]
        if os.geteuid() == 0:  # it will not run as root, and must reach the server's socket
            user = Path(host).owner() if Path(host).is_dir() else "nobody"
            command = [found, "-u", user, str(config)]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        original = dict(direct)
        try:
            wait_until(lambda: listens(port), "pgbouncer does not listen")
            connections["default"].close_pool()
            direct.update({"HOST": "127.0.0.1", "PORT": str(port)})
            connection.close()
            yield
        finally:
            connection.close()
            connections["default"].close_pool()
            direct.update(original)
            server.terminate()
            server.wait(30)


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
