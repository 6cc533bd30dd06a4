"""Rows for accounts that Clerk has and the table has not."""

from __future__ import annotations

import uuid

import pytest

from tests.support.commands import run
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, delete_here, linked
from users.models import Agreement, BuilderUser, BulkRun, ClerkAccount, LinkedBy, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)


def import_(*arguments) -> tuple[int, str]:
    return run("clerk_import", "--rate", "1000", *arguments)


def add(sandbox, email: str, name: str = "Ann Lee", **fields) -> str:
    first, _, last = name.partition(" ")
    account = sandbox.add_user(email=email, first_name=first, last_name=last, **fields)
    return account["id"]


def test_the_day_on_which_the_table_is_empty_and_clerk_is_not(sandbox):
    users = [linked(sandbox, name=f"Mary Ann Smith{n}", email=f"m{n}@example.com")
             for n in range(3)]  # fmt: skip
    group = BuilderGroupFactory(name="Oak Hill")
    delete_here()
    before = sandbox.users()
    code, out = import_("--all", "--role", "HOMEOWNER", "--group", "oak hill")
    assert code == 2, out
    assert "Create: 3" in out
    assert not BuilderUser.objects.exists()
    code, out = import_("--all", "--role", "HOMEOWNER", "--group", "oak hill", "--apply")
    assert code == 0, out
    made = {user.clerk_id: user for user in BuilderUser.objects.all()}
    assert {(user.clerk_id, user.name, user.email) for user in made.values()} == {
        (user.clerk_id, user.name, user.email) for user in users
    }
    assert {(user.role, user.builder_group) for user in made.values()} == {("HOMEOWNER", group)}
    assert all(user.account.pk == user.clerk_id for user in made.values())
    links = Agreement.objects.values_list("clerk_id", "linked_by")
    assert set(links) == {(clerk_id, LinkedBy.STAFF) for clerk_id in made}
    assert sandbox.users() == before
    assert not sandbox.writes()
    assert SyncAttempt.objects.filter(operation="create", status="applied").count() == 3
    assert run("clerk_diff")[0] == 0
    code, out = import_("--all", "--apply")
    assert (code, "Nothing to do." in out) == (0, True)


def test_accounts_are_chosen_by_email_and_domain(sandbox):
    for email in ("ann@oak.example.com", "bob@elm.example.com", "cy@oak.example.com"):
        add(sandbox, email)
    assert (
        import_("--domain", "OAK.example.com", "--email", "CY@oak.example.com", "--apply")[0] == 0
    )
    assert set(BuilderUser.objects.values_list("email", flat=True)) == {"cy@oak.example.com"}
    assert import_("--domain", "@oak.example.com", "--apply")[0] == 0
    assert BuilderUser.objects.filter(email="ann@oak.example.com").exists()
    assert BuilderUser.objects.count() == 2


def test_accounts_are_chosen_by_their_metadata(sandbox):
    add(sandbox, "ann@example.com", public_metadata={"app": "builders", "level": 1})
    add(sandbox, "bob@example.com", public_metadata={"app": "others", "level": 1})
    add(sandbox, "cy@example.com")
    code, out = import_("--metadata", "app=builders", "--metadata", "level=1", "--apply")
    assert code == 0, out
    assert set(BuilderUser.objects.values_list("email", flat=True)) == {"ann@example.com"}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("beta=true", {"ann"}), ("beta=null", {"bob"}), ("beta=None", set()), ("beta=1", {"cy"})],
)
def test_metadata_are_written_as_in_json(sandbox, chosen, expected):
    for name, value in (("ann", True), ("bob", None), ("cy", 1)):
        add(sandbox, f"{name}@example.com", public_metadata={"beta": value})
    add(sandbox, "dee@example.com")
    code, out = import_("--metadata", chosen, "--apply")
    assert code == 0, out
    assert set(BuilderUser.objects.values_list("email", flat=True)) == {
        f"{name}@example.com" for name in expected
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Say which accounts"),
        (("--email", "nobody@example.com"), "No account without a builder user has nobody@"),
        (("--metadata", "app"), "write it as KEY=VALUE"),
        (
            ("--metadata", "app=builders", "--metadata", "app=others"),
            "--metadata has “app” twice: app=builders and app=others.",
        ),
        (("--all", "--group", "Nowhere"), "There is no group “Nowhere”"),
    ],
)
def test_what_cannot_be_meant_is_refused(sandbox, arguments, said):
    add(sandbox, "ann@example.com")
    code, out = import_(*arguments, "--apply")
    assert code == 1
    assert said in out
    assert not BuilderUser.objects.exists()


def test_doubtful_accounts_are_left_out_and_named(sandbox):
    BuilderUserFactory(email="here@example.com")
    add(sandbox, "here@example.com")
    add(sandbox, "open@example.com", verified=False)
    add(sandbox, "banned@example.com", banned=True)
    add(sandbox, "odd@example.com", name="<b> Lee")
    sandbox.add_user(email=None)
    add(sandbox, "ann@example.com")
    code, out = import_("--all", "--apply")
    assert code == 0, out
    for said in (
        "1 account whose email a user here has (see clerk_link): here@example.com.",
        "1 account with an email that is not verified (--include unverified): open@example.com.",
        "1 account banned in Clerk (--include banned): banned@example.com.",
        "1 account not storable (A name cannot hold < or >.): odd@example.com.",
        "1 account without an email: user_",
    ):
        assert said in out
    assert set(
        BuilderUser.objects.filter(clerk_id__isnull=False).values_list("email", flat=True)
    ) == {"ann@example.com"}
    code, out = import_("--all", "--include", "banned", "--include", "unverified", "--apply")
    assert code == 0, out
    assert BuilderUser.objects.linked().count() == 3


def test_an_account_that_staff_released_is_never_taken(sandbox, client):
    user = linked(sandbox, email="ann@example.com")
    ClerkAccount.objects.filter(pk=user.clerk_id).update(user=None, released_at="2026-01-01T00:00Z")
    delete_here(user)
    assert "Nothing to do." in import_("--all", "--apply")[1]


def test_an_account_without_a_name_is_named_by_its_email(sandbox):
    add(sandbox, "ann@example.com", name="")
    assert import_("--all", "--apply")[0] == 0
    assert BuilderUser.objects.get().name == "ann@example.com"
    assert run("clerk_diff")[0] == 0


def test_ids_of_ours_are_given_back_only_when_that_is_asked_for(sandbox):
    ours, doubtful = uuid.uuid4(), uuid.uuid4()
    there = BuilderUserFactory(email="there@example.com")

    def claim(pk: uuid.UUID) -> dict:
        return {"public_metadata": {"cascade_user_id": str(pk)}}

    add(sandbox, "ann@example.com", **claim(ours))
    add(sandbox, "bob@example.com", **claim(doubtful))
    add(sandbox, "cy@example.com", **claim(doubtful))
    add(sandbox, "dee@example.com", **claim(there.pk))
    code, out = import_("--all", "--json")
    assert code == 2
    assert str(ours) not in out
    code, out = import_("--all", "--keep-ids", "--apply")
    assert code == 0, out
    ids = dict(BuilderUser.objects.values_list("email", "pk"))
    assert ids["ann@example.com"] == ours
    assert doubtful not in ids.values()
    assert ids["there@example.com"] == there.pk
    assert BuilderUser.objects.count() == 5


def test_an_account_that_was_connected_since_the_plan_is_skipped(sandbox, tmp_path):
    clerk_id = add(sandbox, "ann@example.com")
    plan = tmp_path / "plan.json"
    assert import_("--all", "--plan-out", plan)[0] == 2
    BuilderUserFactory(email="other@example.com", clerk_id=clerk_id)
    code, out = import_("--plan", plan, "--apply")
    assert code == 2
    assert "account is connected or deleted now" in out
    assert BuilderUser.objects.count() == 1
    assert BulkRun.objects.get(command="clerk_import").rows.get().state == "skipped"
