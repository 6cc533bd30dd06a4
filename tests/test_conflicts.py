"""Two staff members edit the same user: nobody overwrites anything unseen, and nobody is told of a
conflict that is none."""

from __future__ import annotations

import contextlib

import pytest
from django.core import signing
from django.test import Client

from tests.support.change_form import form_of, in_clerk, page_of, said, stored, text_of
from tests.support.factories import (
    BuilderGroupFactory,
    BuilderUserFactory,
    StaffFactory,
    change_here,
    linked,
)
from tests.support.html_form import fields_of
from users.models import BuilderUser, Status, SyncAttempt
from users.sync.outbound import checkpoints
from users.version import SALT

pytestmark = pytest.mark.django_db(transaction=True)

NOTHING = ["It is stored like this already; nothing had to be saved."]


@pytest.fixture
def colleague(db):
    """The browser of another staff member."""
    client = Client()
    client.force_login(StaffFactory(first_name="Kim", last_name="Other"))
    return client


def opened(client, user):
    return fields_of(client.get(page_of(user)))


def save(client, user, form, **typed):
    return client.post(page_of(user), form | typed)


def rows_of(response):
    """The list of the conflict: `{field: (base, theirs, mine, whether to choose)}`."""
    return {
        row["field"]: (row["base"], row["theirs"], row["mine"], row["choice"])
        for row in response.context["conflict_rows"]
    }


@contextlib.contextmanager
def at(step, act):
    """Do something once, when a save reaches a step."""
    acted = []

    def once(sender, step, **_):
        if step == wanted and not acted:
            acted.append(step)
            act()

    wanted = step
    checkpoints.reached.connect(once)
    try:
        yield
    finally:
        checkpoints.reached.disconnect(once)
    assert acted


class TestTheSameField:
    def test_the_second_sees_both_values_and_decides(self, client, colleague, sandbox):
        user = linked(sandbox)
        mine, theirs = opened(client, user), opened(colleague, user)
        assert save(colleague, user, theirs, name="Mary Ann Jones").status_code == 302
        response = save(client, user, mine, name="Mary Ann Brown")
        assert "changed by Kim Other since you opened the form (name)" in text_of(response)
        assert rows_of(response) == {
            "name": ("Mary Ann Smith", "Mary Ann Jones", "Mary Ann Brown", True)
        }
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        shown = fields_of(response)
        assert shown["name"] == "Mary Ann Brown"
        assert save(client, user, shown).status_code == 302
        assert stored(user).name == "Mary Ann Brown"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")

    @pytest.mark.parametrize("typed", ["Mary Ann Jones", " Mary  Ann  Jones "])
    def test_the_same_name_typed_by_two_is_no_conflict(self, client, colleague, sandbox, typed):
        user = linked(sandbox)
        mine, theirs = opened(client, user), opened(colleague, user)
        save(colleague, user, theirs, name="Mary Ann Jones")
        sandbox.clear_requests()
        assert said(save(client, user, mine, name=typed)) == NOTHING
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert sandbox.requests() == []
        assert SyncAttempt.objects.count() == 1

    def test_the_same_group_chosen_by_two_is_no_conflict(self, client, colleague, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory()
        mine, theirs = opened(client, user), opened(colleague, user)
        save(colleague, user, theirs, builder_group=str(group.pk))
        assert said(save(client, user, mine, builder_group=str(group.pk).upper())) == NOTHING
        assert stored(user).builder_group == group

    def test_the_same_email_typed_by_two_is_no_conflict(self, client, colleague, sandbox):
        user = BuilderUserFactory()
        mine, theirs = opened(client, user), opened(colleague, user)
        save(colleague, user, theirs, email="new@example.com")
        assert said(save(client, user, mine, email="New@Example.com")) == NOTHING
        assert stored(user).email == "new@example.com"

    def test_an_email_that_is_stored_meanwhile_is_not_guarded(self, client, sandbox):
        """The person changed it in Clerk while the form was open; staff type the same."""
        user, group = linked(sandbox), BuilderGroupFactory()
        mine = opened(client, user)
        change_here(user, email="new@example.com")
        response = save(client, user, mine, email="new@example.com", builder_group=str(group.pk))
        assert response.status_code == 302
        assert (stored(user).email, stored(user).builder_group) == ("new@example.com", group)
        assert set(SyncAttempt.objects.get().changes) == {"builder_group"}

    def test_what_both_typed_is_left_out_and_the_rest_is_saved(self, client, colleague, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory()
        mine, theirs = opened(client, user), opened(colleague, user)
        save(colleague, user, theirs, name="Mary Ann Jones")
        sandbox.clear_requests()
        response = save(client, user, mine, name="Mary Ann Jones", builder_group=str(group.pk))
        assert response.status_code == 302
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Jones", group)
        assert sandbox.requests() == []
        assert set(SyncAttempt.objects.latest("pk").changes) == {"builder_group"}

    def test_two_tabs_of_one_person(self, client, sandbox):
        user = linked(sandbox)
        first, second = opened(client, user), opened(client, user)
        assert save(client, user, first, name="Mary Ann Jones").status_code == 302
        assert said(save(client, user, second, name="Mary Ann Jones"))[-1:] == NOTHING
        assert SyncAttempt.objects.count() == 1


class TestWhileItIsSaved:
    """The colleague's value arrives between the record of the attempt and the lock of the row."""

    def test_the_same_value(self, client, sandbox):
        user = linked(sandbox)
        mine = opened(client, user)
        with at(checkpoints.AFTER_ATTEMPT, lambda: change_here(user, name="Mary Ann Jones")):
            response = save(client, user, mine, name="Mary Ann Jones")
        assert said(response) == NOTHING
        assert stored(user).name == "Mary Ann Jones"
        assert sandbox.writes() == []
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, attempt.message) == (Status.DROPPED, NOTHING[0])

    def test_the_same_value_of_one_of_two_fields(self, client, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory()
        mine = opened(client, user)
        with at(checkpoints.AFTER_ATTEMPT, lambda: change_here(user, name="Mary Ann Jones")):
            response = save(client, user, mine, name="Mary Ann Jones", builder_group=str(group.pk))
        assert response.status_code == 302
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Jones", group)
        assert sandbox.writes() == []
        attempt = SyncAttempt.objects.get()
        assert attempt.status == Status.APPLIED
        assert attempt.changes == {"builder_group": [None, str(group.pk)]}

    def test_another_value(self, client, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory(name="Cedar")
        mine = opened(client, user)
        rows = BuilderUser.objects.filter(pk=user.pk)
        with at(checkpoints.AFTER_ATTEMPT, lambda: rows.update(builder_group=group)):
            response = save(client, user, mine, name="Mary Ann Jones")
        assert rows_of(response) == {"builder_group": ("—", "Cedar", "Not touched", False)}
        assert fields_of(response)["builder_group"] == str(group.pk)
        assert stored(user).name == "Mary Ann Smith"
        assert sandbox.writes() == []

    def test_an_attempt_that_was_dropped_shows_what_changed_too(self, client, sandbox):
        """Recovery took the save for a dead one, and a colleague set the group."""
        user, group = linked(sandbox), BuilderGroupFactory(name="Cedar")
        mine = opened(client, user)

        def drop():
            SyncAttempt.objects.update(status=Status.DROPPED, settled_at=user.created_at)
            BuilderUser.objects.filter(pk=user.pk).update(builder_group=group)

        with at(checkpoints.AFTER_ATTEMPT, drop):
            response = save(client, user, mine, name="Mary Ann Jones")
        assert response.status_code == 200
        assert rows_of(response) == {"builder_group": ("—", "Cedar", "Not touched", False)}
        shown = fields_of(response)
        assert (shown["name"], shown["builder_group"]) == ("Mary Ann Jones", str(group.pk))
        assert save(client, user, shown).status_code == 302
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Jones", group)
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")

    def test_an_attempt_that_was_dropped_alone_keeps_the_typing(self, client, sandbox):
        user = linked(sandbox)
        mine = opened(client, user)
        dropped = {"status": Status.DROPPED, "settled_at": user.created_at}
        with at(checkpoints.AFTER_ATTEMPT, lambda: SyncAttempt.objects.update(**dropped)):
            response = save(client, user, mine, name="Mary Ann Jones")
        assert rows_of(response) == {}
        assert "Nothing was saved" in text_of(response)
        assert stored(user).name == "Mary Ann Smith"
        assert sandbox.writes() == []
        assert save(client, user, fields_of(response)).status_code == 302
        assert stored(user).name == "Mary Ann Jones"


class TestUntouchedFields:
    def test_they_show_what_is_stored_and_stay_so(self, client, colleague, sandbox):
        user = linked(sandbox)
        cedar = BuilderGroupFactory(name="Cedar")
        mine, theirs = opened(client, user), opened(colleague, user)
        changed = {"builder_group": str(cedar.pk), "role": "ADMIN", "internal_role": "Employee"}
        save(colleague, user, theirs, **changed)
        response = save(client, user, mine, name="Mary Ann Brown")
        assert rows_of(response) == {
            "role": ("Builder", "Admin", "Not touched", False),
            "internal_role": ("—", "Employee", "Not touched", False),
            "builder_group": ("—", "Cedar", "Not touched", False),
        }
        shown = fields_of(response)
        assert shown["name"] == "Mary Ann Brown"
        assert {field: shown[field] for field in changed} == changed
        assert save(client, user, shown).status_code == 302
        now = stored(user)
        assert (now.name, now.role, now.internal_role, now.builder_group) == (
            "Mary Ann Brown", "ADMIN", "Employee", cedar,
        )  # fmt: skip
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")

    def test_a_correction_in_between_hides_no_change(self, client, colleague, sandbox):
        """A refused form keeps the token that it was opened with: what a colleague stored in
        between is shown at the next save."""
        user = linked(sandbox)
        cedar = BuilderGroupFactory(name="Cedar")
        mine = opened(client, user)
        save(colleague, user, opened(colleague, user), builder_group=str(cedar.pk))
        refused = save(client, user, mine, name="<Mary>")
        assert "name" in refused.context["adminform"].form.errors
        response = save(client, user, fields_of(refused), name="Mary Ann Brown")
        assert rows_of(response) == {"builder_group": ("—", "Cedar", "Not touched", False)}
        assert save(client, user, fields_of(response)).status_code == 302
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Brown", cedar)

    def test_a_group_that_is_deleted_while_the_form_is_open(self, client, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory()
        mine = opened(client, user)
        group.delete()
        refused = save(client, user, mine, builder_group=str(group.pk))
        assert "builder_group" in refused.context["adminform"].form.errors
        again = save(client, user, fields_of(refused))
        assert "builder_group" in again.context["adminform"].form.errors
        assert stored(user).builder_group is None

    def test_a_user_relinked_while_the_form_is_open(self, client, sandbox):
        user, other = linked(sandbox), sandbox.add_user(email="other@example.com")
        mine = opened(client, user)
        change_here(user, clerk_id=other["id"])
        response = save(client, user, mine, name="Mary Ann Brown")
        assert rows_of(response) == {"clerk_id": (user.clerk_id, other["id"], "Not touched", False)}
        assert stored(user).name == "Mary Ann Smith"
        assert sandbox.writes() == []


def foreign(user):
    return form_of(BuilderUserFactory())["version"]


UNREADABLE = {
    "none": lambda user: "",
    "forged": lambda user: "forged",
    "of another user": foreign,
    "of an older release": lambda user: signing.dumps(["a", "b"], salt=SALT, compress=True),
    "of another kind": lambda user: signing.dumps({}, salt=SALT, compress=True),
    "a number": lambda user: signing.dumps(7, salt=SALT, compress=True),
    "long": lambda user: "x" * 20_000,
    "with a NUL": lambda user: "\0",
}


@pytest.mark.parametrize("token", UNREADABLE.values(), ids=UNREADABLE)
class TestATokenThatCannotBeRead:
    def test_the_form_shows_what_is_stored_beside_what_was_typed(self, client, sandbox, token):
        cedar, birch = BuilderGroupFactory(name="Cedar"), BuilderGroupFactory(name="Birch")
        user = linked(sandbox, builder_group=cedar)
        mine = form_of(user) | {"version": token(user), "builder_group": str(birch.pk)}
        response = save(client, user, mine, name="Mary Ann Brown")
        assert response.status_code == 200
        assert "This form cannot be compared with what is stored now" in text_of(response)
        listed = {field: row[1:] for field, row in rows_of(response).items()}
        assert listed == {
            "name": ("Mary Ann Smith", "Mary Ann Brown", True),
            "builder_group": ("Cedar", "Birch", True),
        }
        shown = fields_of(response)
        assert (shown["name"], shown["builder_group"]) == ("Mary Ann Smith", str(cedar.pk))
        assert stored(user).name == "Mary Ann Smith"
        assert sandbox.requests() == []
        # Saving the page as it is changes nothing; with one value chosen it saves that one.
        assert said(save(client, user, shown)) == NOTHING
        assert save(client, user, shown, name="Mary Ann Brown").status_code == 302
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Brown", cedar)
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")

    def test_what_is_stored_anyway_is_no_conflict(self, client, sandbox, token):
        user = linked(sandbox)
        assert said(save(client, user, form_of(user), version=token(user))) == NOTHING
        assert sandbox.requests() == []


def test_a_form_that_lacks_its_token_saves_nothing(client, sandbox):
    user = linked(sandbox)
    mine = opened(client, user)
    del mine["version"]
    response = save(client, user, mine, name="Mary Ann Brown")
    assert rows_of(response) == {"name": ("—", "Mary Ann Smith", "Mary Ann Brown", True)}
    assert stored(user).name == "Mary Ann Smith"
    assert sandbox.requests() == []


def test_a_refusal_keeps_the_edit_token_and_the_typing(client, sandbox):
    """A failure that is no conflict: the form is as it was."""
    user = linked(sandbox)
    mine = opened(client, user)
    sandbox.fault("PATCH /users/{user_id}", "status", status=429, retry_after=1)
    response = save(client, user, mine, name="Mary Ann Brown")
    shown = fields_of(response)
    assert shown == mine | {"name": "Mary Ann Brown", "token": shown["token"]}
    assert shown["token"] != mine["token"], "the page may be sent once more"
    assert response.context["conflict_rows"] == []
