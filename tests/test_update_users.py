"""Corrections from a spreadsheet."""

from __future__ import annotations

import csv
import json
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
from openpyxl import Workbook
from openpyxl.styles import Font

from tests.support.change_form import form_of, page_of, text_of
from tests.support.commands import run
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    change_here,
    linked,
)
from users.models import BuilderUser, BulkRow, BulkRun, Invitation, SyncAttempt
from users.sync.bulk import results
from users.sync.bulk import run as runs
from users.sync.outbound import exchange

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def update(tmp_path, sandbox):
    """Write the lines to a file and run the command on it; Clerk's side is trusted."""

    def call(lines: list[str] | str | bytes, *arguments) -> tuple[int, str]:
        if isinstance(lines, list):
            lines = "\n".join(lines) + "\n"
        content = lines if isinstance(lines, bytes) else lines.encode()
        file(tmp_path).write_bytes(content)
        return run("update_users", file(tmp_path), "--no-refresh", "--rate", "1000", *arguments)

    return call


def file(folder: Path) -> Path:
    return folder / "fixes.csv"


def outcomes(folder: Path) -> dict[int, tuple[str, str]]:
    """What the newest result file says of each line."""
    newest = max(folder.glob("fixes.result*.csv"), key=lambda file: file.stat().st_mtime_ns)
    with newest.open(encoding="utf-8", newline="") as text:
        return {int(row["line"]): (row["outcome"], row["reason"]) for row in csv.DictReader(text)}


def test_a_line_brings_its_user_to_what_it_says_on_both_sides(sandbox, update, tmp_path):
    group = BuilderGroupFactory(name="Oak Hill")
    mary, john = linked(sandbox, name="Mary Ann Smith"), BuilderUserFactory(name="John Doe")
    same = linked(sandbox, name="Mary Ann Brown")
    code, out = update([
        "id,name,role,internal_role,builder_group,email",
        f"{mary.pk},Mary Ann Jones,,,oak hill,",
        f'{john.pk},"Doe, John",Admin,employee,,JOHN@example.com',
        f"{same.pk},Mary Ann  Brown,,,,{same.email}",
    ], "--apply")  # fmt: skip
    assert code == 0, out
    mary.refresh_from_db()
    john.refresh_from_db()
    assert (mary.name, mary.builder_group) == ("Mary Ann Jones", group)
    assert sandbox.user(mary.clerk_id)["last_name"] == "Jones"
    assert (john.name, john.role, john.internal_role, john.email) == (
        "Doe, John", "ADMIN", "Employee", "john@example.com",
    )  # fmt: skip
    assert len(sandbox.writes()) == 1
    assert outcomes(tmp_path) == {2: ("changed", ""), 3: ("changed", ""), 4: ("unchanged", "")}
    attempts = SyncAttempt.objects.filter(source="command", status="applied")
    assert attempts.count() == 2


def test_the_same_file_twice_changes_nothing_more(sandbox, update, tmp_path):
    user = linked(sandbox)
    lines = ["id,name", f"{user.pk},Mary Ann Jones"]
    assert update(lines, "--apply")[0] == 0
    sandbox.clear_requests()
    code, out = update(lines, "--apply")
    assert (code, "Nothing to do" in out) == (0, True)
    assert not sandbox.requests()
    assert SyncAttempt.objects.count() == 1
    assert outcomes(tmp_path) == {2: ("unchanged", "")}


def test_without_apply_it_only_says_what_it_would_do(sandbox, update, tmp_path):
    user = linked(sandbox)
    code, out = update(["id,name", f"{user.pk},Mary Ann Jones"])
    assert code == 2
    assert "Mary Ann Jones" in out
    user.refresh_from_db()
    assert user.name == "Mary Ann Smith"
    assert not (tmp_path / "fixes.result.csv").exists()


def test_the_key_may_be_the_clerk_id_or_the_email(sandbox, update):
    mary, john = linked(sandbox), BuilderUserFactory(email="john@example.com")
    assert update(["clerk_id,name", f"{mary.clerk_id},Mary Ann Jones"], "--apply")[0] == 0
    assert update(["email,name", "John@Example.com,John Roe"], "--apply")[0] == 0
    mary.refresh_from_db()
    john.refresh_from_db()
    assert (mary.name, john.name) == ("Mary Ann Jones", "John Roe")


@pytest.mark.parametrize(
    "written",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace(",", ";").encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(",", "\t").encode(),
        lambda text: text.replace("id,name", '"ID" , "Name"').replace(" , ", ",").encode(),
        lambda text: f"{text}\n\n,\n".encode(),
    ],
    ids=["BOM", "semicolons", "CRLF", "tabs", "quotes", "empty lines"],
)
def test_files_as_spreadsheets_write_them(sandbox, update, written):
    user = linked(sandbox)
    code, out = update(written(f"id,name\n{user.pk},Zoë Ångström\n"), "--apply")
    assert code == 0, out
    user.refresh_from_db()
    assert user.name == "Zoë Ångström"
    assert sandbox.user(user.clerk_id)["first_name"] == "Zoë"


def test_a_new_address_of_a_linked_user_needs_a_word_about_its_sign_in(sandbox, update, tmp_path):
    replaced, invited = linked(sandbox, email="a@example.com"), linked(sandbox)
    assert "new_address" in update(["id,email", f"{replaced.pk},b@example.com"], "--apply")[1]
    code, out = update([
        "id,email,new_address",
        f"{replaced.pk},b@example.com,replace",
        f"{invited.pk},c@example.com,invite",
    ], "--apply")  # fmt: skip
    assert code == 0, out
    replaced.refresh_from_db()
    invited.refresh_from_db()
    assert replaced.email == "b@example.com"
    assert sandbox.find("b@example.com")[0]["id"] == replaced.clerk_id
    assert not sandbox.find("a@example.com")
    assert invited.email != "c@example.com"
    assert Invitation.objects.get().email == "c@example.com"
    assert SyncAttempt.objects.filter(run=BulkRun.objects.get(), status="applied").count() == 2


def test_a_line_with_a_new_name_and_a_new_address_is_two_changes(sandbox, update, tmp_path):
    user = linked(sandbox)
    line = f"{user.pk},Mary Ann Jones,b@example.com"
    code, out = update(["id,name,email", line], "--apply", "--new-address", "replace")
    assert code == 0, out
    user.refresh_from_db()
    assert (user.name, user.email) == ("Mary Ann Jones", "b@example.com")
    account = sandbox.find("b@example.com")[0]
    assert (account["id"], account["last_name"]) == (user.clerk_id, "Jones")
    assert outcomes(tmp_path) == {2: ("changed", "")}


NEW_NAME, NEW_ADDRESS = (
    "id,name\n{},Mary Ann Jones",
    "id,email,new_address\n{},new@example.com,replace",
)


@pytest.mark.parametrize("order", [(), ("--sort", "user")])
def test_a_limit_does_the_first_changes_that_the_plan_shows(sandbox, tmp_path, order):
    """A user's second change comes after everybody's first, in the plan as in the run."""
    mary, john = linked(sandbox, email="mary@example.com"), linked(sandbox)
    file = tmp_path / "fixes.csv"
    file.write_text(
        f"id,name,email\n{mary.pk},Ann Roe,ann@example.com\n{john.pk},Zoe Roe,{john.email}\n"
    )
    arguments = ("update_users", file, "--no-refresh", "--new-address", "replace", *order, "--json")
    planned = json.loads(run(*arguments)[1].splitlines()[0])["plan"]["rows"]
    assert len(planned) == 3
    run(*arguments, "--apply", "--limit", "2")
    done = BulkRow.objects.filter(state="done").order_by("position")
    assert [(str(row.user_id), row.operation) for row in done] == [
        (row["user_id"], row["operation"]) for row in planned[:2]
    ]


@pytest.mark.parametrize(
    ("lines", "edited"),
    [(NEW_NAME, {"last_name": "Own"}), (NEW_ADDRESS, {"email": "own@example.com"})],
    ids=["name", "email"],
)
def test_what_was_edited_in_clerk_since_the_plan_is_skipped_however_well_it_is_known(
    sandbox, update, tmp_path, lines, edited
):
    user, plan = linked(sandbox), tmp_path / "plan.json"
    assert update(lines.format(user.pk), "--plan-out", plan)[0] == 2
    sandbox.edit(user.clerk_id, **edited)
    account = sandbox.user(user.clerk_id)
    sandbox.clear_requests()
    code, out = run("update_users", "--plan", plan, "--apply")  # it scans before: our copy knows
    assert (code, "It changed since the plan was made" in out) == (2, True), out
    assert sandbox.user(user.clerk_id) == account
    assert not sandbox.writes()
    before = user.name, user.email
    user.refresh_from_db()
    assert (user.name, user.email) == before


def test_a_skipped_row_tells_the_new_group_by_its_name(sandbox, update, tmp_path):
    oak, _ = BuilderGroupFactory(name="Oak Hill"), BuilderGroupFactory(name="Elm")
    user, plan = linked(sandbox), tmp_path / "plan.json"
    update(["id,builder_group", f"{user.pk},Elm"], "--plan-out", plan)
    change_here(user, builder_group=oak)
    code, out = run("update_users", "--plan", plan, "--no-refresh", "--apply")
    assert code == 2, out
    assert "It changed since the plan was made: builder group is Oak Hill now." in out
    user.refresh_from_db()
    assert user.builder_group == oak
    assert not sandbox.writes()


def test_a_plan_shows_what_clerk_holds_where_that_is_not_what_the_row_holds(
    sandbox, update, tmp_path
):
    user = linked(sandbox)
    change_here(user, name="Mary Ann Brown")
    lines = ["id,name", f"{user.pk},Mary Ann Jones"]
    _, out = update(lines, "--json")
    assert json.loads(out)["plan"]["rows"][0]["changes"] == {
        "name": ["Mary Ann Brown", "Mary Ann Jones"],
        "clerk_name": ["Mary Ann Smith", "Mary Ann Jones"],
    }
    assert update(lines, "--apply")[0] == 0
    user.refresh_from_db()
    assert user.name == "Mary Ann Jones"
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"
    assert SyncAttempt.objects.get().changes == {"name": ["Mary Ann Brown", "Mary Ann Jones"]}
    undo = ["--undo", BulkRun.objects.get().pk, "--result", tmp_path / "undone.csv"]
    assert run("update_users", *undo, "--apply", "--no-refresh")[0] == 0
    user.refresh_from_db()
    assert user.name == "Mary Ann Brown"


def test_a_group_and_an_internal_role_can_be_emptied(sandbox, update):
    user = BuilderUserFactory(
        role="ADMIN", internal_role="Employee", builder_group=BuilderGroupFactory()
    )
    line = f"{user.pk},(none),(none),builder"
    assert update(["id,builder_group,internal_role,role", line], "--apply")[0] == 0
    user.refresh_from_db()
    assert (user.builder_group, user.internal_role, user.role) == (None, None, "BUILDER")


def test_all_that_is_wrong_is_said_at_once_with_its_line(sandbox, update):
    users = [BuilderUserFactory(name="Mary Smith") for _ in range(8)]
    BuilderGroupFactory(name="Twin")
    BuilderGroupFactory(name="TWIN")
    taken = BuilderUserFactory(email="taken@example.com")
    ids = [user.pk for user in users]
    code, out = update([
        "id,name,email,role,internal_role,builder_group",
        f"{ids[0]},<b>,no address,KING,,",
        f"{ids[1]},,taken@example.com,,,",
        f"{ids[2]},,new@example.com,,,",
        f"{ids[3]},,new@example.com,,,",
        f"{ids[4]},,,BUILDER,Employee,Elm",
        f"{ids[5]},,,,,twin",
        f"{ids[5]},=cmd,,,,",
        "no-id,NULL,,KING,,",
        f"{ids[6]},too,few",
        ",<b>,x@example.com,,,",
        f"{ids[7]},,,KING,Employee,",
    ], "--apply")  # fmt: skip
    assert code == 1
    for text in (
        "line 2, name: A name cannot hold < or >",
        "line 2, email: Enter a valid email",
        "line 2, role: “KING” is none of",
        f"line 3, email: another builder user has {taken.email}",
        "line 5, email: line 4 has new@example.com too",
        "line 6, internal_role: Only users with the role Admin",
        "line 6, builder_group: there is no group “Elm”",
        "line 7, builder_group: there is no group “twin”, which several have",
        "line 8, id: the same user as in line 7",
        "line 8, name: “=cmd” is a formula",
        "line 9, id: no user has the id “no-id”",
        "line 9, name: “NULL” is not a name",
        "line 9, role: “KING” is none of",
        "line 10: it has 3 cells, not 6",
        "line 11, id: no id",
        "line 11, name: A name cannot hold < or >",
        "line 12, role: “KING” is none of",
    ):
        assert text in out
    assert "line 12, internal_role" not in out
    assert not BulkRun.objects.exists()
    assert set(BuilderUser.objects.exclude(pk=taken.pk).values_list("name", flat=True)) == {
        "Mary Smith"
    }


# --- Recorded accidents: each stopped before the first write -------------------------------------


@pytest.fixture
def many(sandbox):
    return [
        linked(sandbox, name=f"Mary Ann Smith{n}", email=f"m{n}@example.com") for n in range(60)
    ]


def stopped(result: tuple[int, str], sandbox, *texts: str) -> None:
    code, out = result
    assert code == 1, out
    for text in texts:
        assert text in out
    assert not sandbox.writes()
    assert not BulkRun.objects.exists()


def test_the_wrong_column_mapped(sandbox, update, many):
    """The company's name in the column of the name."""
    lines = [f"{user.pk},Oak Hill Homes {n}" for n, user in enumerate(many)]
    texts = ("60 changes of type “Edit”", "--max-changes 60")
    stopped(update(["id,name", *lines], "--apply"), sandbox, *texts)


def test_names_in_the_column_of_emails(sandbox, update, many):
    lines = [f"{user.pk},{user.name}" for user in many]
    stopped(update(["id,email", *lines], "--apply"), sandbox, "line 2, email: Enter a valid")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\n\n\n"])
def test_an_empty_file(sandbox, update, many, content):
    stopped(update(content, "--apply"), sandbox, "The file is empty")


def test_a_head_only(sandbox, update, many):
    stopped(update("id,name\n", "--apply"), sandbox, "no data rows")


def test_half_an_export(sandbox, update, many):
    """Cut off in the middle of a line; and inside quotes."""
    lines = [f'{user.pk},"Smith, Jane {n}",BUILDER' for n, user in enumerate(many[:10])]
    text = "\n".join(["id,name,role", *lines])
    stopped(update(text[:-14], "--apply"), sandbox, "this is not CSV")
    stopped(update(text[:-8], "--apply"), sandbox, "line 11: it has 2 cells, not 3")


def test_shuffled_emails(sandbox, update, many):
    """A column sorted on its own: everybody gets somebody else's address."""
    others = many[1:] + many[:1]
    lines = [f"{user.pk},{other.email}" for user, other in zip(many, others, strict=True)]
    stopped(
        update(["id,email", *lines], "--apply", "--new-address", "replace", "--max-changes", "99"),
        sandbox,
        "another builder user has m1@example.com",
    )


def test_an_export_of_another_instance(sandbox, update, many):
    lines = [f"{user.pk},user_elsewhere{n},Jane Roe" for n, user in enumerate(many)]
    stopped(update(["id,clerk_id,name", *lines], "--apply"), sandbox, "of this instance?")
    lines = [f"user_elsewhere{n},Jane Roe" for n in range(60)]
    stopped(update(["clerk_id,name", *lines], "--apply"), sandbox, "no user has the clerk_id")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("id,nmae", "unknown column “nmae”"),
        ("name,role", "no key"),
        ("id", "nothing to change"),
        ("id,name,name", "column “name” twice"),
        ("id,password", "unknown column “password”"),
    ],
)
def test_columns_that_cannot_be_used(sandbox, update, many, head, said):
    stopped(update(f"{head}\n1,2,3\n", "--apply"), sandbox, said)


def workbook_of_parts(*, flags: int = 0, compression: int = 8) -> bytes:
    """Return a workbook whose archive says this of each of its parts."""
    file = BytesIO()
    Workbook().save(file)
    content = bytearray(file.getvalue())
    for header, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(header)
        while start >= 0:
            content[start + place], content[start + place + 2] = flags, compression
            start = content.find(header, start + 1)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(workbook_of_parts(flags=1), id="encrypted"),
        pytest.param(workbook_of_parts(compression=99), id="unknown compression"),
        pytest.param(workbook_of_parts(compression=12), id="broken bzip2"),
        pytest.param(workbook_of_parts(compression=14), id="broken LZMA"),
    ],
)
def test_workbooks_that_cannot_be_unpacked(sandbox, update, many, content):
    stopped(update(content, "--apply"), sandbox, "is not an Excel workbook that can be read")


@pytest.mark.parametrize(
    ("column", "row", "said"),
    [
        ("B", 99999999999999999999, "a sheet may have at most 1,048,576 rows"),
        ("XFD", 2, "line 2: a row may have at most 1,000 cells"),
    ],
)
def test_a_workbook_with_a_text_far_away_is_not_read_for_ever(
    sandbox, update, many, column, row, said
):
    """The file is small, but openpyxl makes every empty row and cell before that cell."""
    book, file, content = Workbook(), BytesIO(), BytesIO()
    for cells in (["id", "name"], [None, "Jane Roe"]):
        book.active.append(cells)
    book.save(file)
    with ZipFile(file) as archive, ZipFile(content, "w") as changed:
        for part in archive.namelist():
            text = archive.read(part).decode()
            text = text.replace('r="B2"', f'r="{column}{row}"').replace('r="2"', f'r="{row}"')
            changed.writestr(part, text)
    stopped(update(content.getvalue(), "--apply"), sandbox, said)


def test_a_csv_file_with_too_many_columns(sandbox, update, many):
    stopped(update(f"id,name{',x' * 999}\n", "--apply"), sandbox, "at most 1,000 cells")


def test_rows_that_are_formatted_to_their_end_are_read(sandbox, update):
    user, book, file = linked(sandbox), Workbook(), BytesIO()
    for cells in (["id", "name"], [str(user.pk), "Jane Roe"]):
        book.active.append(cells)
    for cell in ("XFD1", "XFD2"):
        book.active[cell].font = Font(bold=True)
    book.save(file)
    assert update(file.getvalue(), "--apply")[0] == 0
    assert BuilderUser.objects.get(pk=user.pk).name == "Jane Roe"


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00i\x00d", b"id,name\n\x80\x81,x\n", b"id,name\n\x00,x\n", b'id,name\n"x"y,z\n',
     b"PK\x03\x04\x00\x00", b"id,name\n" + b"x" * 200_000 + b",y\n"],
)  # fmt: skip
def test_files_that_are_no_spreadsheet(sandbox, update, many, content):
    stopped(update(content, "--apply"), sandbox)


def test_a_file_that_is_not_there_or_a_result_that_cannot_be_written(sandbox, tmp_path, update):
    assert "cannot be read" in run("update_users", tmp_path / "none.csv", "--no-refresh")[1]
    assert "Name the spreadsheet" in run("update_users", "--no-refresh")[1]
    user = linked(sandbox)
    code, out = update(
        ["id,name", f"{user.pk},Jane Roe"], "--apply", "--result", tmp_path / "none" / "r.csv"
    )
    assert (code, f"the folder {tmp_path / 'none'} does not exist" in out) == (1, True)
    assert not sandbox.writes()


# --- Runs ----------------------------------------------------------------------------------------


def test_a_failing_line_is_in_the_result_and_the_others_are_done(
    sandbox, update, tmp_path, monkeypatch
):
    monkeypatch.setattr(runs, "ROUND_PAUSES", (0.0, 0.01, 0.01, 0.01))
    gone, there = linked(sandbox), linked(sandbox)
    sandbox.delete(gone.clerk_id)
    lines = ["id,name", f"{gone.pk},Jane Roe", f"{there.pk},Jane Doe"]
    code, _ = update(lines, "--apply")
    assert code == 2
    result = outcomes(tmp_path)
    assert result[2][0] == "failed"
    assert "User not found in Clerk" in result[2][1]
    assert result[3] == ("changed", "")
    gone.refresh_from_db()
    there.refresh_from_db()
    assert (gone.name, there.name) == ("Mary Ann Smith", "Jane Doe")


def test_the_result_file_is_right_before_the_run_counts_as_ended(
    sandbox, update, tmp_path, monkeypatch
):
    """A process that is killed between the two leaves no result behind that nobody corrects."""
    seen = []
    end = BulkRun.end

    def ending(self, *arguments, **options):
        seen.append(outcomes(tmp_path))
        return end(self, *arguments, **options)

    monkeypatch.setattr(BulkRun, "end", ending)
    user = linked(sandbox)
    assert update(["id,name", f"{user.pk},Jane Roe"], "--apply")[0] == 0
    assert seen[0] == {2: ("changed", "")}


def test_a_result_file_is_of_one_run_and_readable_by_its_owner_alone(sandbox, update, tmp_path):
    user = linked(sandbox)
    for name in ("Mary Ann Jones", "Mary Ann Brown"):
        assert update(["id,name", f"{user.pk},{name}"], "--apply")[0] == 0
    files = [tmp_path / f"fixes.result.{run.pk}.csv" for run in BulkRun.objects.all()]
    assert len(files) == 2
    for result in files:
        assert result.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == sorted([file(tmp_path), *files])


@pytest.mark.parametrize("option", ["--result", "--plan-out"])
def test_the_spreadsheet_itself_is_never_overwritten(sandbox, update, tmp_path, option):
    user = linked(sandbox)
    lines = ["id,name", f"{user.pk},Jane Roe"]
    link = tmp_path / "link.csv"
    link.symlink_to(file(tmp_path))
    for path in (file(tmp_path), link):
        stopped(update(lines, "--apply", option, path), sandbox, option, "the same file")
        assert file(tmp_path).read_text().splitlines() == lines


def test_results_before_are_never_overwritten(sandbox, update, tmp_path):
    user = linked(sandbox)
    before = tmp_path / "before.csv"
    before.write_text("results")
    lines = ["id,name", f"{user.pk},Jane Roe"]
    stopped(update(lines, "--apply", "--result", before), sandbox, "exists")
    assert before.read_text() == "results"


def test_the_default_result_file_takes_a_name_that_is_free(sandbox, update, tmp_path):
    user = linked(sandbox)
    wrong, right = ["id,name", f"{user.pk},<b>"], ["id,name", f"{user.pk},Jane Roe"]
    taken = tmp_path / "fixes.result.csv"
    taken.write_text("the work of somebody else")
    out = update(wrong, "--apply")[1]
    assert f"All of it stands in {tmp_path / 'fixes.result-2.csv'}." in out
    assert outcomes(tmp_path)[2][0] == "wrong"
    assert update(right, "--apply")[0] == 0
    code, out = update(right, "--apply")
    assert (code, "Nothing to do" in out) == (0, True)
    assert outcomes(tmp_path) == {2: ("unchanged", "")}
    following = tmp_path / f"fixes.result.{BulkRun.objects.get().pk + 1}.csv"
    following.write_text("the work of somebody else")
    assert update(["id,name", f"{user.pk},Jane Brown"], "--apply")[0] == 0
    assert BulkRun.objects.latest("pk").options["result"] == str(
        following.with_name(f"{following.stem}-2.csv")
    )
    assert outcomes(tmp_path) == {2: ("changed", "")}
    for kept in (taken, following):
        assert kept.read_text() == "the work of somebody else"


def test_a_line_whose_change_was_applied_after_all_is_told_as_changed(
    sandbox, update, tmp_path, monkeypatch
):
    """The process failed after Clerk had taken the change; recovery finds that."""
    user = linked(sandbox)
    complete = exchange.complete

    def failing(*arguments, **options):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(exchange, "complete", failing)
    monkeypatch.setattr(runs, "ROUND_PAUSES", (0.0,))
    assert update(["id,name", f"{user.pk},Mary Ann Jones"], "--apply")[0] == 2
    waiting = BulkRun.objects.get()
    assert (waiting.rows.get().state, outcomes(tmp_path)[2][0]) == ("waiting", "waiting")
    monkeypatch.setattr(exchange, "complete", complete)
    assert run("clerk_recover")[0] == 0
    waiting.refresh_from_db()
    assert (waiting.state, waiting.rows.get().state) == ("finished", "done")
    assert outcomes(tmp_path) == {2: ("changed", "")}
    user.refresh_from_db()
    assert user.name == "Mary Ann Jones"


def test_the_result_file_follows_a_change_that_the_next_edit_at_the_form_resolves(
    sandbox, update, tmp_path, monkeypatch, client
):
    user = linked(sandbox)
    complete = exchange.complete

    def failing(*arguments, **options):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(exchange, "complete", failing)
    monkeypatch.setattr(runs, "ROUND_PAUSES", (0.0,))
    assert update(["id,name", f"{user.pk},Mary Ann Jones"], "--apply")[0] == 2
    monkeypatch.setattr(exchange, "complete", complete)
    client.post(page_of(user), form_of(user, name="Mary Ann Brown"))
    assert BulkRun.objects.get().attempts.get().status == "applied"
    assert outcomes(tmp_path)[2][0] == "waiting"
    run("runs")
    assert outcomes(tmp_path) == {2: ("changed", "")}
    user.refresh_from_db()
    assert user.name == "Mary Ann Jones"
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


@pytest.mark.parametrize(
    "looking",
    [
        ["update_users", "--resume", "{run}"],
        ["runs", "show", "{run}"],
        ["clerk_push", "--no-refresh"],
    ],
)
def test_the_result_file_of_a_run_killed_after_its_last_row_is_written_by_who_comes_next(
    sandbox, update, tmp_path, looking
):
    user = linked(sandbox)
    assert update(["id,name", f"{user.pk},Mary Ann Jones"], "--apply")[0] == 0
    killed = BulkRun.objects.get()
    results.write(Path(killed.options["result"]), {2: results.Result(str(user.pk))})
    BulkRun.objects.update(state="running", finished_at=None)
    run(*(word.format(run=killed.pk) for word in looking))
    assert outcomes(tmp_path) == {2: ("changed", "")}
    assert BulkRun.objects.get().state == "finished"


@pytest.mark.parametrize("action", ["show", "export"])
def test_the_result_file_that_the_worker_cannot_reach_is_written_when_its_run_is_shown(
    sandbox, update, tmp_path, action
):
    user = linked(sandbox)
    assert update(["id,name", f"{user.pk},Mary Ann Jones"], "--apply")[0] == 0
    killed = BulkRun.objects.get()
    result = Path(killed.options["result"])
    results.write(result, {2: results.Result(str(user.pk))})
    BulkRun.objects.update(state="running", finished_at=None)
    elsewhere = result.rename(tmp_path / "elsewhere.csv")
    run("clerk_recover")  # what the worker does
    elsewhere.rename(result)
    assert BulkRun.objects.get().state == "finished"
    assert run("runs", action, killed.pk)[0] == 0
    assert outcomes(tmp_path) == {2: ("changed", "")}


def test_undo_brings_back_what_was_there(sandbox, update, tmp_path):
    group = BuilderGroupFactory(name="Oak Hill")
    user = linked(sandbox, builder_group=group, email="a@example.com")
    line = f"{user.pk},Mary Ann Jones,b@example.com,(none)"
    code, out = update(["id,name,email,builder_group", line], "--apply", "--new-address", "replace")
    assert code == 0, out
    done = BulkRun.objects.get()
    code, out = run("update_users", "--undo", done.pk, "--no-refresh", "--apply",
                    "--result", tmp_path / "undo.csv")  # fmt: skip
    assert code == 0, out
    assert "replaced back" in out
    user.refresh_from_db()
    assert (user.name, user.email, user.builder_group) == ("Mary Ann Smith", "a@example.com", group)
    account = sandbox.find("a@example.com")[0]
    assert (account["id"], account["last_name"]) == (user.clerk_id, "Smith")
    assert BulkRun.objects.get(undo_of=done).state == "finished"


def test_machines_get_one_document(sandbox, update):
    user = linked(sandbox)
    out = update(["id,name", f"{user.pk},Jane Roe"], "--apply", "--json")[1]
    document = json.loads(out.splitlines()[-1])
    assert document["plan"]["counts"] == {"Edit": 1}
    assert document["run"]["counts"] == {"Done": 1}


def test_staff_see_runs_with_their_rows_and_attempts_and_edit_nothing(sandbox, update, client):
    user = linked(sandbox)
    update(["id,name", f"{user.pk},Mary Ann Jones"], "--apply")
    done = BulkRun.objects.get()
    page = client.get(f"/admin/users/bulkrun/{done.pk}/change/").content.decode()
    assert f"update_users --undo {done.pk}" in page
    assert "1 done" in page
    assert "update_users" in client.get("/admin/users/bulkrun/").content.decode()
    for listed in ("bulkrow", "syncattempt"):
        path = f"/admin/users/{listed}/?run__id__exact={done.pk}"
        assert "Mary Ann" in client.get(path).content.decode()
    for listed in ("bulkrun", "bulkrow"):
        assert client.get(f"/admin/users/{listed}/add/").status_code == 403
    assert client.post(f"/admin/users/bulkrun/{done.pk}/change/", {}).status_code == 403
    assert (
        client.post(f"/admin/users/bulkrun/{done.pk}/delete/", {"post": "yes"}).status_code == 403
    )


def test_a_form_that_was_open_meanwhile_gets_a_conflict_that_names_the_actor(
    sandbox, update, client
):
    StaffFactory(username="engineer", first_name="Erin", last_name="Engineer")
    user = linked(sandbox)
    opened = form_of(user, name="Mary Ann Brown")
    lines = ["id,name", f"{user.pk},Mary Ann Jones"]
    assert update(lines, "--apply", "--actor", "engineer")[0] == 0
    page = text_of(client.post(page_of(user), opened))
    assert "changed by Erin Engineer since you opened the form" in page
    user.refresh_from_db()
    assert user.name == "Mary Ann Jones"
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"
