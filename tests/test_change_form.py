"""Editing a user on the form: what staff see, and what both stores hold afterwards."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models.functions import Now
from django.urls import reverse

from tests.support.change_form import (
    assert_unchanged,
    in_clerk,
    page_of,
    said,
    stored,
    submit,
    text_of,
)
from tests.support.factories import BuilderGroupFactory, BuilderUserFactory, linked
from tests.support.html_form import fields_of
from tests.support.patience import deadline_for
from tests.support.unknown import NOT_CONFIRMED
from users.models import BuilderGroup, BuilderUser, ClerkAccount, SyncAttempt
from users.sync.mirror import agreements
from users.sync.outbound import checkpoints

pytestmark = pytest.mark.django_db(transaction=True)

NOT_SAVED = "Nothing was saved"


class TestSaved:
    def test_a_name_reaches_clerk_and_the_database(self, client, sandbox, staff):
        user = linked(sandbox, clerk={"public_metadata": {"plan": "gold"}})
        response = submit(client, user, name="  Mary  Ann Jones ")
        assert response.status_code == 302
        assert "Saved here and in Clerk." in said(response)[0]
        assert stored(user).name == "Mary Ann Jones"
        assert stored(user).updated_at > user.updated_at
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert sandbox.user(user.clerk_id)["public_metadata"] == {"plan": "gold"}
        [write] = sandbox.writes()
        assert (write.method, write.path) == ("PATCH", f"/users/{user.clerk_id}")
        assert set(write.body) - {"notify_primary_email_address_changed"} == {
            "first_name",
            "last_name",
        }
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, attempt.source, attempt.actor) == ("applied", "admin", staff)
        assert attempt.changes == {"name": ["Mary Ann Smith", "Mary Ann Jones"]}
        entry = LogEntry.objects.get()
        assert (entry.user, entry.object_id) == (staff, str(user.pk))
        assert entry.get_change_message() == "Changed Name."

    def test_a_save_asks_clerk_twice_and_takes_at_most_20_statements(
        self, client, sandbox, django_assert_max_num_queries
    ):
        user = linked(sandbox)
        ContentType.objects.get_for_model(BuilderUser)  # known to a process after its first save
        agreements.observe([user.pk])  # known after the first save of a user
        fields = fields_of(client.get(page_of(user)))
        ClerkAccount.objects.update(seen_at=Now() - timedelta(hours=1))
        with django_assert_max_num_queries(20):
            response = client.post(page_of(user), fields | {"name": "Mary Ann Jones"})
        assert "Saved here and in Clerk." in said(response)[0]
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert [request.method for request in sandbox.requests()] == ["GET", "PATCH"]
        assert str(SyncAttempt.objects.get().token) == fields["token"]

    def test_our_copy_of_clerks_side_follows(self, client, sandbox):
        user = linked(sandbox)
        submit(client, user, name="Mary Ann Jones")
        assert stored(user).account.last_name == "Jones"

    def test_a_group_is_no_business_of_clerks(self, client, sandbox):
        user, group = linked(sandbox), BuilderGroupFactory()
        response = submit(client, user, builder_group=group.pk)
        assert response.status_code == 302
        assert stored(user).builder_group == group
        assert sandbox.requests() == []
        assert SyncAttempt.objects.get().status == "applied"
        assert LogEntry.objects.count() == 1

    def test_a_user_without_an_account_is_saved_here_alone(self, client, sandbox):
        user = BuilderUserFactory()
        submit(client, user, name="Bob", email="Bob@Example.COM")
        assert (stored(user).name, stored(user).email) == ("Bob", "bob@example.com")
        assert sandbox.requests() == []

    def test_without_a_copy_clerk_is_asked_for_the_names(self, client, sandbox):
        user = linked(sandbox)
        user.account.delete()
        submit(client, user, name="Mary Ann Jones")
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert stored(user).account.last_name == "Jones"

    def test_nothing_typed_is_nothing_saved(self, client, sandbox):
        user = linked(sandbox)
        response = submit(client, user)
        assert said(response) == ["It is stored like this already; nothing had to be saved."]
        assert not SyncAttempt.objects.exists()
        assert sandbox.requests() == []
        assert stored(user).updated_at == user.updated_at


REFUSALS = {
    "429": ({"status": 429, "code": "too_many_requests", "retry_after": 7}, "in 7 seconds"),
    "401": ({"status": 401, "code": "clerk_key_invalid"}, "Failed to sync with Clerk"),
    "403": ({"status": 403, "code": "feature_not_enabled"}, "Failed to sync with Clerk"),
    "404": (
        {"status": 404, "code": "resource_not_found"},
        "User not found in Clerk. They may have been deleted.",
    ),
    "409": (
        {"status": 409, "code": "conflict", "message": "Conflict"},
        "Clerk is busy with another change of this user. Save again in a moment.",
    ),
    "422": (
        {"status": 422, "code": "form_param_value_invalid", "message": "is odd"},
        "Invalid update data: is odd",
    ),
}


class TestRefused:
    @pytest.mark.parametrize(("fault", "words"), REFUSALS.values(), ids=REFUSALS)
    def test_nothing_is_saved_and_the_form_says_why(self, client, sandbox, fault, words):
        user, group = linked(sandbox), BuilderGroupFactory()
        sandbox.fault("PATCH /users/{user_id}", **{"kind": "status", **fault})
        response = submit(client, user, name="Mary Ann Jones", builder_group=group.pk)
        assert response.status_code == 200
        assert words in text_of(response)
        assert 'value="Mary Ann Jones"' in text_of(response)
        assert str(group.pk) in text_of(response)
        assert "successfully" not in text_of(response)
        assert stored(user).builder_group is None
        assert SyncAttempt.objects.get().status in ("refused", "dropped")
        assert len(sandbox.writes()) == 1
        assert_unchanged(sandbox, user)

    def test_a_refusal_stands_at_its_field(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault(
            "PATCH /users/{user_id}", "status", status=422, code="x", message="No.",
            param="first_name",
        )  # fmt: skip
        form = submit(client, user, name="Bob").context["adminform"].form
        assert form.errors["name"] == ["Invalid update data: No."]
        assert_unchanged(sandbox, user)

    def test_two_errors_are_both_told(self, client, sandbox):
        user = linked(sandbox)
        errors = [
            {
                "code": "a",
                "message": "One",
                "long_message": "One.",
                "meta": {"param_name": "last_name"},
            },
            {"code": "b", "message": "Two", "long_message": "Two."},
        ]
        sandbox.fault("PATCH /users/{user_id}", "status", status=422, errors=errors)
        form = submit(client, user, name="Bob").context["adminform"].form
        assert form.errors["name"] == ["Invalid update data: One."]
        assert "Two." in form.errors["__all__"][0]

    def test_a_name_that_clerk_finds_too_long(self, client, sandbox):
        user = linked(sandbox)
        response = submit(client, user, name="x " * 150)
        assert "name" in response.context["adminform"].form.errors
        assert_unchanged(sandbox, user)

    def test_the_email_of_a_linked_user_is_guarded(self, client, sandbox):
        user = linked(sandbox)
        response = submit(client, user, name="Bob", email="new@example.com")
        errors = response.context["adminform"].form.errors["email"]
        assert "requires an invitation" in errors[0]
        page = reverse("admin:users_builderuser_email", args=[user.pk])
        assert f'{page}?email=new%40example.com"' in errors[1]
        assert 'value="Bob"' in text_of(response)
        assert sandbox.requests() == []
        assert_unchanged(sandbox, user)

    def test_an_email_that_another_user_has(self, client, sandbox):
        other, user = BuilderUserFactory(email="taken@example.com"), BuilderUserFactory()
        response = submit(client, user, email="Taken@Example.com")
        errors = response.context["adminform"].form.errors["email"]
        assert errors[0] == "Another builder user has this email."
        assert stored(user).email == user.email != other.email
        assert sandbox.requests() == []

    def test_a_group_that_goes_while_the_form_is_saved(self, client, sandbox):
        """Foreign keys are deferred: at the commit they would speak after Clerk was told."""
        user, group = linked(sandbox), BuilderGroupFactory()

        def delete_group(sender, step, **_):
            if step == checkpoints.AFTER_ATTEMPT:
                BuilderGroup.objects.filter(pk=group.pk).delete()

        checkpoints.reached.connect(delete_group)
        try:
            response = submit(client, user, name="Mary Ann Jones", builder_group=group.pk)
        finally:
            checkpoints.reached.disconnect(delete_group)
        assert "builder_group" in response.context["adminform"].form.errors
        assert sandbox.writes() == []
        attempt = SyncAttempt.objects.get()
        assert (attempt.status, attempt.error_code) == ("refused", "group_gone")
        assert_unchanged(sandbox, user)

    def test_without_a_key_linked_users_are_safe_and_others_work(self, client, sandbox, settings):
        settings.CLERK_SECRET_KEY = ""
        user, other = linked(sandbox), BuilderUserFactory()
        response = submit(client, user, name="Bob")
        assert "Clerk authentication not configured" in text_of(response)
        assert_unchanged(sandbox, user)
        submit(client, other, name="Bob")
        assert stored(other).name == "Bob"


class TestOutcomeUnknown:
    def test_a_refused_connection(self, client, sandbox, settings):
        user = linked(sandbox)
        settings.CLERK_API_URL = "http://127.0.0.1:9/v1"
        response = submit(client, user, name="Bob")
        assert "Failed to connect to authentication system. Please try again." in text_of(response)
        assert SyncAttempt.objects.get().status == "dropped"
        assert_unchanged(sandbox, user)

    @pytest.mark.parametrize("kind", ["reset", "close", "status", "html", "unreadable_error"])
    def test_an_answer_that_decides_nothing_is_told_as_it_is(self, client, sandbox, kind):
        user = linked(sandbox)
        sandbox.fault("PATCH /users/{user_id}", kind)
        response = submit(client, user, name="Bob")
        assert "Failed to sync with Clerk authentication system" in text_of(response)
        assert NOT_CONFIRMED in text_of(response)
        assert 'value="Bob"' in text_of(response)
        assert SyncAttempt.objects.get().status == "started"
        assert len(sandbox.writes()) == 1
        assert_unchanged(sandbox, user)

    def test_a_hanging_clerk_ends_with_the_deadline(self, client, sandbox, settings):
        user = linked(sandbox)
        settings.CLERK_EDIT_DEADLINE = deadline_for(lambda: client.get(page_of(user)), at_least=2.0)
        sandbox.fault("*", "hang", times=None)
        response = submit(client, user, name="Bob")
        assert NOT_CONFIRMED in text_of(response)
        assert SyncAttempt.objects.get().status == "started"
        sandbox.clear_faults()
        assert_unchanged(sandbox, user)

    @pytest.mark.parametrize(
        "kind", ["reset", "close", "status", "html", "broken_json", "html_200"]
    )
    def test_clerk_applied_it_and_then_failed(self, client, sandbox, kind):
        user = linked(sandbox)
        sandbox.fault("PATCH /users/{user_id}", kind, apply=True)
        response = submit(client, user, name="Mary Ann Jones")
        assert response.status_code == 302
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert len(sandbox.writes()) == 1
        assert SyncAttempt.objects.get().status == "applied"
        assert LogEntry.objects.count() == 1

    def test_clerk_applied_it_and_cannot_be_read_back(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("PATCH /users/{user_id}", "reset", apply=True)
        sandbox.fault("GET /users/{user_id}", "status", status=503, times=None)
        response = submit(client, user, name="Mary Ann Jones")
        assert NOT_CONFIRMED in text_of(response)
        assert stored(user).name == user.name
        assert SyncAttempt.objects.get().status == "started"
        assert not LogEntry.objects.exists()
        # The page of the user says so, and one click settles it.
        sandbox.clear_faults()
        assert "not confirmed by Clerk yet" in text_of(client.get(page_of(user)))
        client.post(reverse("admin:users_builderuser_check", args=[user.pk]))
        assert stored(user).name == "Mary Ann Jones"
        assert SyncAttempt.objects.get().status == "applied"
        assert LogEntry.objects.count() == 1


class TestTwoPeople:
    def test_the_second_is_told_and_overwrites_nothing(self, client, sandbox):
        user = linked(sandbox)
        group = BuilderGroupFactory(name="Cedar Homes")
        submit(client, user, name="Mary Ann Jones", builder_group=group.pk)
        response = submit(client, user, name="Mary Ann Brown")
        page = text_of(response)
        assert "changed by Sam Staff since you opened the form" in page
        assert "Mary Ann Jones" in page
        assert "Cedar Homes" in page
        assert stored(user).name == "Mary Ann Jones"
        assert in_clerk(sandbox, user) == ("Mary Ann", "Jones")
        assert SyncAttempt.objects.filter(status="dropped").count() == 1
        # Saving the form as it is shown now takes my name and leaves the group that I never saw.
        form = response.context["adminform"].form
        client.post(page_of(user), {name: form[name].value() or "" for name in form.fields})
        assert (stored(user).name, stored(user).builder_group) == ("Mary Ann Brown", group)
        assert in_clerk(sandbox, user) == ("Mary Ann", "Brown")

    def test_a_write_past_this_application_counts_too(self, client, sandbox):
        user = linked(sandbox)
        BuilderUser.objects.filter(pk=user.pk).update(role="ADMIN")  # no journal
        response = submit(client, user, name="Bob")
        assert "since you opened the form" in text_of(response)
        assert_unchanged(sandbox, user)

    @pytest.mark.parametrize("version", ["", "forged", "a:b:c"])
    def test_a_form_without_its_version_saves_nothing(self, client, sandbox, version):
        user = linked(sandbox)
        response = submit(client, user, name="Bob", version=version)
        assert response.status_code == 200
        assert "cannot be compared" in text_of(response)
        assert 'value="Bob"' in text_of(response)
        assert_unchanged(sandbox, user)
