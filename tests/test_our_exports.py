"""The CSV files that our commands write, used as spreadsheets and as the target of an export."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.support.commands import run, run_apart, trusting
from tests.support.factories import BuilderUserFactory, change_here, linked
from users.clerk import ClerkUser
from users.models import BuilderUser, BulkRun
from users.sync.mirror import store

pytestmark = pytest.mark.django_db(transaction=True)


def update(file: Path, *arguments: str) -> tuple[int, str]:
    return run("update_users", file, *trusting(arguments), "--rate", "1000")


def diff_file(folder: Path) -> Path:
    """An export of `clerk_diff`."""
    file = folder / "diff.csv"
    file.write_text(run_apart("clerk_diff", "--format", "csv")[1], encoding="utf-8", newline="")
    return file


def run_file(folder: Path) -> Path:
    """An export of the newest run."""
    file = folder / "run.csv"
    assert run("runs", "export", "--out", file)[0] == 0
    return file


def with_column(file: Path, header: str, cell: str) -> Path:
    """The file with one more column, which has the same cell in every line."""
    with file.open(encoding="utf-8", newline="") as text:
        first, *rows = csv.reader(text)
    with file.open("w", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows([[*first, header], *([*row, cell] for row in rows)])
    return file


@pytest.fixture
def differing(sandbox) -> BuilderUser:
    """A linked user whose name is another one here than in Clerk."""
    user = linked(sandbox, name="Mary Ann Smith")
    change_here(user, name="Mary Ann Jones")
    user.refresh_from_db()
    return user


@pytest.mark.parametrize(
    ("export", "written_by"),
    [(diff_file, "clerk_diff --format csv"), (run_file, "runs export")],
)
def test_an_export_names_the_users_of_a_spreadsheet_and_new_values_stand_beside_it(
    sandbox, differing, tmp_path, export, written_by
):
    run("clerk_push", "--no-refresh", "--apply")
    change_here(differing, name="Mary Ann Jones-Roe")
    file = with_column(export(tmp_path), "name", "Jane Roe")
    code, out = update(file, "--apply")
    assert code == 0, out
    assert f"The file is an export of “{written_by}”." in out
    assert "“user_id” is read as id" in out
    assert "not read: " in out
    differing.refresh_from_db()
    assert differing.name == "Jane Roe"
    assert sandbox.user(differing.clerk_id)["first_name"] == "Jane"


@pytest.mark.parametrize("export", [diff_file, run_file])
def test_an_export_without_new_values_says_which_columns_are_needed(
    sandbox, differing, tmp_path, export
):
    run("clerk_push", "--no-refresh", "--apply")
    change_here(differing, name="Mary Ann Jones-Roe")
    file = export(tmp_path)
    sandbox.clear_requests()
    code, out = update(file, "--apply")
    assert code == 1
    assert "nothing to change: none of the columns name, email, role, internal_role, " in out
    assert "has no new values" in out
    assert "unknown column" not in out
    assert "1 thing is wrong" in out
    assert not sandbox.requests()


def test_a_result_file_says_that_it_names_no_user(sandbox, differing, tmp_path):
    (tmp_path / "fixes.csv").write_text(f"id,name\n{differing.pk},Jane Roe\n")
    assert update(tmp_path / "fixes.csv", "--apply")[0] == 0
    [result] = tmp_path.glob("fixes.result.*")
    code, out = update(result, "--apply")
    assert code == 1
    assert "The file is the result file of a run." in out
    assert "no key: one of the columns id, clerk_id, email is needed" in out
    assert "unknown column" not in out


def test_the_account_of_a_difference_is_not_taken_for_the_account_of_its_user(sandbox, tmp_path):
    """An account that matches a user without one: the difference has both ids."""
    account = ClerkUser.parse(sandbox.add_user(email="mary@example.com"))
    user = BuilderUserFactory(name="Mary Ann Smith", email="mary@example.com")
    store.keep(account)
    file = with_column(diff_file(tmp_path), "name", "Jane Roe")
    assert account.id in file.read_text()
    code, out = update(file, "--apply")
    assert code == 0, out
    user.refresh_from_db()
    assert user.name == "Jane Roe"


def test_an_action_takes_the_users_of_an_export(sandbox, differing, tmp_path):
    file = diff_file(tmp_path)
    code, out = run("clerk_action", "ban", file, "--no-refresh", "--apply")
    assert code == 0, out
    assert sandbox.user(differing.clerk_id)["banned"]


def test_a_column_with_a_name_of_an_export_is_unknown_in_any_other_file(sandbox, tmp_path):
    user = BuilderUserFactory()
    (tmp_path / "fixes.csv").write_text(f"id,name,state\n{user.pk},Jane Roe,Ohio\n")
    code, out = update(tmp_path / "fixes.csv", "--apply")
    assert (code, "unknown column “state”" in out) == (1, True)


@pytest.mark.parametrize("name", ["'-Mary Roe", "-Mary Roe", "''@Mary Roe", "'Mary Roe"])
def test_a_name_with_quotes_comes_back_as_it_was(sandbox, client, tmp_path, name):
    BuilderUserFactory(name=name)
    file = tmp_path / "users.csv"
    file.write_bytes(client.get("/admin/users/builderuser/export/").getvalue())
    with file.open(encoding="utf-8-sig", newline="") as text:
        [row] = csv.DictReader(text)
    assert not row["name"].startswith(("=", "+", "-", "@"))
    code, out = update(file)
    assert (code, "Nothing to do." in out) == (0, True), out


# --- Files that exist ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a file", "a folder", "a link to nothing"])
def test_no_command_writes_over_a_file_that_exists(sandbox, differing, tmp_path, name):
    run("clerk_push", "--no-refresh", "--apply", "--limit", "1")
    change_here(differing, name="Mary Ann Jones-Roe")
    taken, plan = tmp_path / "taken", tmp_path / "plan.json"
    if name == "a file":
        taken.write_text("the work of somebody else")
    elif name == "a folder":
        taken.mkdir()
    else:
        taken.symlink_to(tmp_path / "nothing")
    (tmp_path / "fixes.csv").write_text(f"id,name\n{differing.pk},Jane Roe\n")
    assert update(tmp_path / "fixes.csv", "--plan-out", str(plan))[0] == 2
    sandbox.clear_requests()
    done = BulkRun.objects.get()
    for option, arguments in (
        ("--out", ["runs", "export", "--out"]),
        ("--plan-out", ["clerk_push", "--apply", "--plan-out"]),
        ("--plan-out", ["clerk_push", "--undo", str(done.pk), "--plan-out"]),
        ("--result", ["update_users", tmp_path / "fixes.csv", "--apply", "--result"]),
        ("--result", ["update_users", "--plan", plan, "--apply", "--result"]),
    ):
        said = f"{taken} exists. Nothing was changed; give {option} a new name."
        assert run(*arguments, taken) == (1, said)
    assert not sandbox.requests()
    assert BulkRun.objects.get() == done
    if name == "a file":
        assert taken.read_text() == "the work of somebody else"
    assert not (tmp_path / "nothing").exists()
