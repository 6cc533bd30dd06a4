"""Our copy of Clerk's side follows a row that another application gives another account."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.db import connection
from django.urls import reverse

from sandbox import Sandbox
from tests.support.change_form import in_clerk, page_of, stored, submit, text_of
from tests.support.commands import run
from tests.support.events import arrive, happened
from tests.support.factories import linked
from users.models import BuilderUser, ClerkAccount, SyncAttempt

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = "user_1First", "user_2Second"


@dataclass
class Relinked:
    """`user` was linked to `before`; the other application stored `now`."""

    user: BuilderUser
    before: str
    now: str


def set_clerk_ids(ids: dict[BuilderUser, str | None]) -> None:
    """Change the column as another application does: by SQL, without us."""
    with connection.cursor() as cursor:
        for user in ids:
            cursor.execute("UPDATE users SET clerk_id = NULL WHERE id = %s", [user.pk])
        for user, clerk_id in ids.items():
            cursor.execute("UPDATE users SET clerk_id = %s WHERE id = %s", [clerk_id, user.pk])


def owners() -> dict[str, BuilderUser | None]:
    return {known.pk: known.user for known in ClerkAccount.objects.select_related("user")}


@pytest.fixture(params=[(FIRST, SECOND), (SECOND, FIRST)], ids=["later id", "earlier id"])
def relinked(request: pytest.FixtureRequest, sandbox: Sandbox) -> Relinked:
    before, now = request.param
    user = linked(sandbox, clerk={"id": before})
    sandbox.add_user(id=now, email="other@example.com", first_name="Mary Ann", last_name="Smith")
    happened(sandbox)
    set_clerk_ids({user: now})
    return Relinked(stored(user), before, now)


@pytest.fixture(params=[(FIRST, SECOND), (SECOND, FIRST)], ids=["later id", "earlier id"])
def swapped(request: pytest.FixtureRequest, sandbox: Sandbox) -> tuple[BuilderUser, BuilderUser]:
    """Two rows that hold each other's account."""
    one, two = (linked(sandbox, clerk={"id": clerk_id}) for clerk_id in request.param)
    happened(sandbox)
    set_clerk_ids({one: two.clerk_id, two: one.clerk_id})
    return stored(one), stored(two)


class TestAnotherAccount:
    def test_a_save_reaches_the_account_that_the_row_has_now(self, client, sandbox, relinked):
        response = submit(client, relinked.user, name="Mary Ann Jones")
        assert response.status_code == 302
        assert stored(relinked.user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, relinked.user) == ("Mary Ann", "Jones")
        assert sandbox.user(relinked.before)["last_name"] == "Smith"
        assert SyncAttempt.objects.get().status == "applied"
        assert owners() == {relinked.before: None, relinked.now: relinked.user}

    @pytest.mark.parametrize("page", ["refresh", "take_over"])
    def test_a_button_that_reads_clerk(self, client, sandbox, relinked, page):
        response = client.post(reverse(f"admin:users_builderuser_{page}", args=[relinked.user.pk]))
        assert response.status_code == 302
        assert owners() == {relinked.before: None, relinked.now: relinked.user}

    def test_an_event_of_the_account_that_the_row_has_now(self, sandbox, relinked):
        sandbox.edit(relinked.now, last_name="Jones")
        arrive(sandbox)
        # The two never were the same while we looked: that is shown, and nobody's name is lost.
        assert stored(relinked.user).name == "Mary Ann Smith"
        assert owners() == {relinked.before: None, relinked.now: relinked.user}

    def test_an_event_of_the_account_that_the_row_had(self, sandbox, relinked):
        sandbox.edit(relinked.before, last_name="Jones")
        arrive(sandbox)
        assert stored(relinked.user).name == "Mary Ann Smith"
        assert owners()[relinked.before] is None

    def test_the_form_does_not_show_the_account_that_the_row_had(self, client, relinked):
        text = text_of(client.get(page_of(relinked.user)))
        assert f"Linked to <code>{relinked.now}</code>, which was not seen in Clerk yet." in text

    def test_the_list_does_not_show_the_account_that_the_row_had(self, client, relinked):
        assert "Not checked yet" in text_of(client.get("/admin/users/builderuser/"))


class TestNoAccount:
    @pytest.fixture
    def unlinked(self, sandbox) -> BuilderUser:
        user = linked(sandbox)
        happened(sandbox)
        set_clerk_ids({user: None})
        return stored(user)

    def test_the_row_can_be_linked_to_another_account(self, client, sandbox, unlinked):
        other = sandbox.add_user(email="other@example.com")
        url = reverse("admin:users_builderuser_link", args=[unlinked.pk])
        response = client.post(url, {"clerk_id": other["id"]})
        assert response.status_code == 302, text_of(response)
        assert stored(unlinked).clerk_id == other["id"]
        assert ClerkAccount.objects.get(user=unlinked).pk == other["id"]


class TestSwapped:
    def test_a_scan(self, sandbox, swapped):
        one, two = swapped
        run("clerk_diff", "--refresh")
        assert owners() == {one.clerk_id: one, two.clerk_id: two}

    def test_saves(self, client, sandbox, swapped):
        for user, last_name in zip(swapped, ("Jones", "Brown"), strict=True):
            response = submit(client, user, name=f"Mary Ann {last_name}")
            assert response.status_code == 302, text_of(response)
            assert in_clerk(sandbox, user) == ("Mary Ann", last_name)
        assert owners() == {user.clerk_id: user for user in swapped}

    @pytest.mark.parametrize("page", ["refresh", "take_over"])
    def test_buttons_that_read_clerk(self, client, sandbox, swapped, page):
        for user in swapped:
            url = reverse(f"admin:users_builderuser_{page}", args=[user.pk])
            assert client.post(url).status_code == 302
        assert owners() == {user.clerk_id: user for user in swapped}

    def test_events(self, sandbox, swapped):
        one, two = swapped
        sandbox.edit(one.clerk_id, last_name="Jones")
        sandbox.edit(two.clerk_id, last_name="Brown")
        arrive(sandbox)
        assert (stored(one).name, stored(two).name) == ("Mary Ann Jones", "Mary Ann Brown")
        assert owners() == {one.clerk_id: one, two.clerk_id: two}
