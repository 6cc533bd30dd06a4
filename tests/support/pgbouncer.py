"""A pgbouncer in transaction mode in front of the server of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection

from tests.support.patience import wait_until

CONSOLE = "pgbouncer"
"""The database of its console, and the role that may use it."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def pooling(name: str, *roles: str, size: int = 2, mode: str = "transaction") -> Iterator[int]:
    """Run a pgbouncer for one database, and yield its port.

    Each role has `size` connections. A role that is not named cannot connect.
    """
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.fail("No pgbouncer: run `make pgbouncer`.")
    server = connection.settings_dict
    host, port = server["HOST"] or "127.0.0.1", _free_port()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text("".join(f'"{role}" ""\n' for role in (*roles, CONSOLE)))
        config.write_text(
            f"[databases]\n{name} = host={host} port={server['PORT'] or 5432} dbname={name}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\nadmin_users = {CONSOLE}\n"
            f"pool_mode = {mode}\ndefault_pool_size = {size}\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        command = [found, str(config)]
        if os.geteuid() == 0:  # it will not run as root, and must reach the server's socket
            user = Path(host).owner() if Path(host).is_dir() else "nobody"
            command = [found, "-u", user, str(config)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: _listens(port), "pgbouncer does not listen")
            yield port
        finally:
            process.terminate()
            process.wait(30)
