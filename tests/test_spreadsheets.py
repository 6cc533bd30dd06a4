"""Spreadsheets as people have them: each file of `tests/spreadsheets` and its exact report.

`UPDATE_REPORTS=1 python -m pytest tests/test_spreadsheets.py` writes the reports anew.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.spreadsheets import make
from tests.support.commands import run, run_apart
from tests.support.documents import read_document
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory
from users.models import BuilderUser

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = sorted(make.files())


@pytest.fixture
def people() -> None:
    BuilderGroupFactory(name=make.GROUP, pk=make.GROUP_ID)
    for pk, (name, email) in make.PEOPLE.items():
        BuilderUserFactory(pk=pk, name=name, email=email)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report_of(name: str, *arguments: str) -> str:
    """What the command says of a file, for people to read: notes, then faults or changes."""
    code, out = run("update_users", name, "--no-refresh", "--json", *arguments)
    lines: list[str] = []
    for text in out.splitlines():
        lines += _told(json.loads(text)) if text.startswith("{") else [text]
    return "\n".join([*lines, f"exit code {code}", ""])


def _told(document: dict[str, Any]) -> list[str]:
    plan = document["plan"] or {}
    lines = list(plan.get("notes") or document["notes"] or [])
    for error in document["errors"] or []:
        column = f", {error['column']}" if error["column"] else ""
        lines.append(f"line {error['line']}{column}: {error['message']}")
    for row in plan.get("rows", []):
        for field, (before, after) in row["changes"].items():
            lines.append(f"line {row['line']}: {field}: {before} → {after}")
    return lines


@pytest.mark.parametrize("name", NAMES)
def test_each_awkward_file_has_its_exact_report(name, people, folder, sandbox):
    before = list(BuilderUser.objects.order_by("pk").values())
    shutil.copy(make.FOLDER / name, folder)
    report = report_of(name)
    expected = make.FOLDER / f"{name}.report"
    if os.environ.get("UPDATE_REPORTS"):
        expected.write_text(report, encoding="utf-8")
    assert report == expected.read_text(encoding="utf-8")
    assert list(BuilderUser.objects.order_by("pk").values()) == before
    assert not sandbox.requests()


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_as_the_script_makes_them(name):
    made, stored = make.files()[name], (make.FOLDER / name).read_bytes()
    if zipfile.is_zipfile(BytesIO(made)):  # most hold the time at which they were made
        assert made == stored or sheets_of(made) == sheets_of(stored)
    elif name.endswith(".csv"):
        assert made == stored


def sheets_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.startswith("docProps/")]
        return {name: archive.read(name) for name in names}


# --- Faults --------------------------------------------------------------------------------------


def test_faults_stand_in_the_result_file_and_clerk_is_not_asked(people, folder, sandbox):
    shutil.copy(make.FOLDER / "all-wrong.csv", folder)
    code, out = run("update_users", "all-wrong.csv", "--apply")
    assert code == 1
    assert "line 2, name: A name cannot hold < or >." in out
    assert "All of it stands in all-wrong.result.csv." in out
    with Path("all-wrong.result.csv").open(encoding="utf-8", newline="") as text:
        rows = {row["line"]: row for row in csv.DictReader(text)}
    assert {row["outcome"] for row in rows.values()} == {"wrong"}
    assert "name: A name cannot hold < or >.; email: Enter a valid" in rows["2"]["reason"]
    assert rows["7"]["reason"] == "id: no id"
    assert not sandbox.requests()


def test_faults_are_told_where_no_result_file_can_be_written(people, folder, sandbox):
    name = f"{'x' * 246}.csv"  # the name of its result would be too long
    shutil.copy(make.FOLDER / "no-names.csv", folder / name)
    code, out = run("update_users", name)
    assert code == 1
    assert "line 4, name: “2026-03-04” is a date, not a name" in out
    assert "cannot be written: File name too long." in out
    assert "All of it stands in" not in out
    code, out, errors = run_apart("update_users", name, "--json")
    assert code == 1
    assert len(read_document("update_users", out)["errors"]) == 5
    assert "cannot be written: File name too long." in errors


def test_machines_get_every_fault_with_its_line_and_column(people, folder):
    shutil.copy(make.FOLDER / "unknown-columns.csv", folder)
    out = run("update_users", "unknown-columns.csv", "--json")[1]
    document = json.loads(out.splitlines()[0])
    assert [(error["line"], error["column"]) for error in document["errors"]] == [
        (1, "column C"), (1, "column D"), (3, "name"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "first_line", ["x" * 200_000, '"email,name'], ids=["too long", "a quote that does not end"]
)
def test_a_header_that_cannot_be_read_is_a_fault_and_no_empty_file(
    people, folder, sandbox, first_line
):
    Path("broken.csv").write_text(f"{first_line}\nmary@example.com,Mary Jones\n")
    code, out = run("update_users", "broken.csv")
    assert code == 1
    assert "line 1: this is not CSV" in out
    assert "1 thing is wrong with broken.csv." in out
    assert "empty" not in out
    assert not sandbox.requests()


def test_unknown_columns_are_left_out_when_that_is_asked_for(people, folder):
    shutil.copy(make.FOLDER / "unknown-columns.csv", folder)
    Path("unknown-columns.csv").write_text(
        Path("unknown-columns.csv").read_text().replace("<b>", "John Roe")
    )
    code, out = run("update_users", "unknown-columns.csv", "--no-refresh",
                    "--ignore-unknown-columns", "--apply")  # fmt: skip
    assert code == 0, out
    assert "Not read: “Phone”, “Shoe size”." in out
    assert BuilderUser.objects.get(pk=make.JOHN).name == "John Roe"


def test_a_pipe_is_refused_and_nobody_waits_for_it(folder, sandbox):
    os.mkfifo("pipe")
    code, out = run("update_users", "pipe")
    assert (code, out) == (
        1,
        "pipe cannot be read: it is a pipe or a device, and a spreadsheet is read more than once. "
        "Save it as a file.",
    )


@pytest.mark.parametrize("option", ["FILE", "--result"])
def test_a_link_to_itself_is_told_in_one_line(people, folder, sandbox, option):
    os.symlink("loop", "loop")
    shutil.copy(make.FOLDER / "utf-8.csv", folder)
    arguments = ["loop"] if option == "FILE" else ["utf-8.csv", "--result", "loop", "--apply"]
    code, out = run("update_users", *arguments, "--no-refresh")
    said = "loop cannot be read: Too many levels of symbolic links." if option == "FILE" else (
        "loop exists. Nothing was changed; give --result a new name."
    )  # fmt: skip
    assert (code, out) == (1, said)


def test_the_encoding_can_be_given(people, folder):
    shutil.copy(make.FOLDER / "windows-1251.csv", folder)
    arguments = "update_users", "windows-1251.csv", "--no-refresh", "--apply", "--encoding"
    for name in ("klingon", "base64"):
        assert f"There is no encoding {name}" in run(*arguments, name)[1]
    assert "is not UTF-8 throughout" in run(*arguments, "utf-8")[1]
    code, out = run(*arguments, "windows-1251")
    assert code == 0, out
    assert BuilderUser.objects.get(pk=make.MARY).name == "Мария Иванова"


def test_an_encoding_for_a_workbook_is_refused_and_not_ignored(people, folder, sandbox):
    shutil.copy(make.FOLDER / "excel.xlsx", folder / "excel.csv")  # the content counts
    code, out = run("update_users", "excel.csv", "--encoding", "utf-16", "--apply")
    said = (
        "--encoding is for CSV files, and excel.csv is an Excel workbook. Nothing was changed; "
        "leave --encoding out."
    )
    assert (code, out) == (1, said)
    assert not sandbox.requests()


def test_the_file_that_is_read_is_never_written_over(people, folder):
    shutil.copy(make.FOLDER / "utf-8.csv", folder)
    code, out = run("update_users", "utf-8.csv", "--no-refresh", "--apply", "--result", "utf-8.csv")
    assert (code, "the same file" in out) == (1, True)
    assert Path("utf-8.csv").read_bytes() == make.files()["utf-8.csv"]


def test_many_faults_are_all_in_the_result_file(people, folder):
    lines = [f"{number},Jane Roe" for number in range(250)]
    Path("many.csv").write_text("\n".join(["id,name", *lines]))
    out = run("update_users", "many.csv")[1]
    assert "… and 150 more." in out
    assert "250 things are wrong with many.csv." in out
    assert len(Path("many.result.csv").read_text().splitlines()) == 251
