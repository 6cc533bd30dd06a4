"""The PostgreSQL of a machine without one: a fresh folder, and the folder of an earlier version."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

START = """
import sys, psycopg
from pathlib import Path
from django.core.exceptions import ImproperlyConfigured
from cascade import embedded_postgres
try:
    with psycopg.connect(embedded_postgres.url(Path(sys.argv[1])), autocommit=True) as connection:
        print(*connection.execute(sys.argv[2]).fetchone())
except ImproperlyConfigured as failure:
    print(failure)
"""


def answer(folder: Path, sql: str) -> str:
    """Start the server of the folder in a process of its own, and ask it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START, str(folder), sql],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_new_folder_has_a_server_with_the_extensions_of_the_search(folder: Path) -> None:
    count = answer(
        folder,
        "SELECT count(*) FROM pg_available_extensions WHERE name IN ('pg_trgm', 'unaccent')",
    )

    assert count == "2"
    assert not (folder / "postmaster.pid").exists(), "The server stops with its last user."


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root runs the server as another user.")
def test_the_folder_of_an_earlier_wheel_stays_usable(folder: Path) -> None:
    before = answer(folder, "SELECT system_identifier FROM pg_control_system()")
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, "nobody")

    assert answer(folder, "SELECT system_identifier FROM pg_control_system()") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root runs the server as another user.")
def test_the_server_of_an_earlier_wheel_is_named_while_it_runs(folder: Path) -> None:
    folder.mkdir()
    (folder / "PG_VERSION").write_text("18\n")
    (folder / "postmaster.pid").write_text(f"{os.getpid()}\n")

    assert "still runs" in answer(folder, "SELECT 1")


def test_data_of_another_major_version_are_named(folder: Path) -> None:
    folder.mkdir()
    (folder / "PG_VERSION").write_text("16\n")

    said = answer(folder, "SELECT 1")

    assert "holds data of PostgreSQL 16" in said
    assert str(folder) in said
