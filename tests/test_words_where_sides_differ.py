"""The pages tell the truth where a row and its account in Clerk differ."""

from __future__ import annotations

import re

import pytest
from django.contrib.messages import get_messages
from django.urls import reverse
from django.utils import timezone

from tests.support.bulk_pages import plan, press
from tests.support.change_form import page_of, said, stored, submit, text_of
from tests.support.commands import run, trusting
from tests.support.events import arrive
from tests.support.factories import BuilderUserFactory, change_here, linked
from tests.support.migrations import migrate, migrate_forward
from tests.support.personas import client_who_may
from tests.support.unknown import time_is_over
from tests.support.user_list import shown
from tests.support.workers import work
from users.models import BulkRun, ClerkAccount, SyncAttempt
from users.sync.retention import person_named, records_of

pytestmark = pytest.mark.django_db(transaction=True)

BELONGS = "ann@example.com belongs to Ann Jones here."
TAKEN = f"Not copied: {BELONGS}"
OPEN_ANN = "Open Ann Jones</a>"


@pytest.fixture(autouse=True)
def no_scan(settings):
    """No scan is due that would hold the lock of bulk work."""
    settings.CLERK_SCAN_AT = None


@pytest.fixture
def ann():
    """A record without an account that has the email by which Mary signs in."""
    return BuilderUserFactory(name="Ann Jones", email="ann@example.com")


@pytest.fixture
def mary(client, sandbox, ann):
    """A user whose address in Clerk is that of another record here."""
    user = linked(sandbox, email="mary@example.com")
    sandbox.edit(user.clerk_id, email="ann@example.com")
    client.post(page(user, "refresh"))
    assert stored(user).email == "mary@example.com"
    sandbox.clear_requests()
    return stored(user)


def page(user, name, *arguments):
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk, *arguments])


def plain(response):
    """The words of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", text_of(response)))


def buttons(response, user, name, *arguments):
    """The texts of the buttons of a page that do this to a user."""
    action = re.escape(page(user, name, *arguments))
    link, form = rf'href="{action}">(.*?)</a>', rf'action="{action}".*?<button[^>]*>(.*?)</button>'
    found = re.findall(f"{link}|{form}", text_of(response), re.S)
    return [re.sub(r"<[^>]+>", "", "".join(texts)) for texts in found]


def colours(response):
    return [message.level_tag for message in get_messages(response.wsgi_request)]


def assert_not_copied(mary, sandbox):
    assert stored(mary).email == "mary@example.com"
    assert sandbox.user(mary.clerk_id)["email_addresses"][0]["email_address"] == "ann@example.com"
    assert sandbox.writes() == []
    attempt = SyncAttempt.objects.get(operation="follow", status="refused")
    assert attempt.changes == {"email": ["mary@example.com", "ann@example.com"]}
    assert TAKEN in attempt.message


class TestCopyOfAnEmailThatAnotherRecordHas:
    def test_it_is_refused_and_names_who_has_it(self, client, sandbox, mary, ann):
        response = client.post(page(mary, "pull", "email"))
        [words] = said(response)
        assert words.startswith(TAKEN)
        for part in ("delete the spare one", "Copy to Clerk", page_of(ann), OPEN_ANN):
            assert part in words
        assert colours(response) == ["error"]
        assert_not_copied(mary, sandbox)

    def test_use_clerks_version_says_what_was_left(self, client, sandbox, mary):
        sandbox.fault("PATCH /users/{user_id}", "late", seconds=None, how="close")
        submit(client, mary, name="Mary Ann Jones")
        sandbox.edit(mary.clerk_id, last_name="Brown")
        time_is_over()
        offered = client.get(page_of(mary))
        assert f"Clerk's email is not used. {BELONGS}" in plain(offered)
        assert buttons(offered, mary, "take_over") == [
            "Use the rest of Clerk's version and discard this change"
        ]
        response = client.post(page(mary, "take_over"))
        first, second = said(response)
        assert first == "The change was discarded. The name was copied from Clerk."
        assert second.startswith(TAKEN)
        assert colours(response) == ["success", "error"]
        assert (stored(mary).name, stored(mary).email) == ("Mary Ann Brown", "mary@example.com")
        attempt = SyncAttempt.objects.get(operation="follow", status="refused")
        assert TAKEN in attempt.message

    def test_a_name_that_no_record_may_hold(self, client, sandbox):
        user = linked(sandbox)
        sandbox.edit(user.clerk_id, last_name="x" * 300)
        [words] = said(client.post(page(user, "pull", "name")))
        assert "The name was not copied from Clerk. Its name is longer than" in words
        assert stored(user).name == "Mary Ann Smith"
        assert SyncAttempt.objects.get().status == "refused"

    def test_nothing_to_copy_is_not_called_a_copy(self, client, sandbox):
        user = linked(sandbox)
        for field in ("name", "email"):
            words = said(client.post(page(user, "pull", field)))[-1]
            assert words == f"Clerk has no other {field} now. Nothing had to be copied."
        assert not SyncAttempt.objects.exists()

    def test_the_result_of_a_run_names_who_was_left_out(self, client, sandbox, mary):
        others = [linked(sandbox, name=f"Jo Field{n}") for n in range(2)]
        for user in others:
            sandbox.edit(user.clerk_id, last_name="Brown")
            change_here(user, name="Jo Green")
            client.post(page(user, "refresh"))
        address = plan(client, [mary, *others], action="copy_from")
        assert TAKEN in plain(client.get(address))
        press(client, address, "begin")
        work()
        result = plain(client.get(address))
        assert "Finished: 2 of 2 processed." in result
        assert f"Mary Ann Smith (mary@example.com): {TAKEN}" in result
        assert stored(mary).email == "mary@example.com"
        records_of(person_named("mary@example.com")).erase()
        assert BulkRun.objects.get().notes == []

    def test_the_command_says_it_and_copies_the_rest(self, sandbox, mary):
        code, out = run("clerk_pull", *trusting(["--apply"]))
        assert (code, TAKEN in " ".join(out.split())) == (0, True)
        assert stored(mary).email == ClerkAccount.objects.get().user.email == "mary@example.com"


class TestWhatCannotWorkIsNotOffered:
    """The page says why in place of the button. Clerk is not asked for it."""

    def copies(self, client, user):
        form = client.get(page_of(user))
        return {
            field: [*buttons(form, user, "push", field), *buttons(form, user, "pull", field)]
            for field in ("name", "email")
        }

    def test_an_email_that_another_record_has(self, client, sandbox, mary, ann):
        assert self.copies(client, mary)["email"] == ["Copy to Clerk… (email)"]
        form = client.get(page_of(mary))
        assert f"Copy from Clerk is not possible. {BELONGS}" in plain(form)
        assert f'Copy from Clerk is not possible. <a href="{page_of(ann)}">' in text_of(form)
        assert sandbox.requests() == []
        change_here(ann, email="jones@example.com")
        assert self.copies(client, mary)["email"] == [
            "Copy to Clerk… (email)", "Copy from Clerk… (email)",
        ]  # fmt: skip

    def test_an_email_that_the_account_of_another_record_has(self, client, sandbox):
        mary = linked(sandbox, email="mary@example.com")
        jo = linked(sandbox, name="Jo Field", email="jo@example.com")
        change_here(mary, email="new@example.com")
        assert self.copies(client, mary)["email"][0] == "Copy to Clerk… (email)"
        sandbox.edit(jo.clerk_id, email="new@example.com")
        arrive(sandbox)
        assert self.copies(client, mary)["email"] == ["Copy from Clerk… (email)"]
        form = client.get(page_of(mary))
        words = "Copy to Clerk is not possible. The Clerk account of Jo Field (jo@example.com) has"
        assert words in plain(form)
        assert f'<a href="{page_of(jo)}">Jo Field (jo@example.com)</a>' in text_of(form)
        sandbox.edit(jo.clerk_id, email="jo@example.com")
        arrive(sandbox)
        assert self.copies(client, mary)["email"][0] == "Copy to Clerk… (email)"

    def test_an_email_that_an_account_of_no_record_has(self, client, sandbox):
        user = linked(sandbox, email="mary@example.com")
        change_here(user, email="new@example.com")
        sandbox.add_user(email="new@example.com")
        arrive(sandbox)
        assert self.copies(client, user)["email"] == ["Copy from Clerk… (email)"]
        words = "Copy to Clerk is not possible. A Clerk account that no user here is connected to"
        assert words in plain(client.get(page_of(user)))

    def test_a_name_that_no_record_may_hold(self, client, sandbox):
        user = linked(sandbox)
        sandbox.edit(user.clerk_id, last_name="x" * 300)
        client.post(page(user, "refresh"))
        assert self.copies(client, user)["name"] == ["Copy to Clerk (name)"]
        words = "Copy from Clerk is not possible. Its name is longer than"
        assert words in plain(client.get(page_of(user)))

    def test_a_value_of_which_a_change_is_pending(self, client, sandbox):
        user = linked(sandbox)
        sandbox.fault("PATCH /users/{user_id}", "close")
        submit(client, user, name="Mary Ann Jones")
        sandbox.edit(user.clerk_id, last_name="Third")
        client.post(page(user, "refresh"))
        late_until = SyncAttempt.objects.get().late_until
        until = f"{late_until:%Y-%m-%d %H:%M:%S} UTC"
        form = client.get(page_of(user))
        waits = f"Clerk may still take another change until {until}."
        assert f"Copy from Clerk is not possible. {waits}" in plain(form)
        assert buttons(form, user, "take_over") == []
        discard = f"You can discard this change after {until}: until then Clerk may still take what"
        assert discard in plain(form)
        assert said(client.post(page(user, "take_over")))[0].startswith("An earlier change")
        time_is_over()
        form = client.get(page_of(user))
        assert buttons(form, user, "take_over") == ["Use Clerk's version and discard this change"]
        assert "Decide about that one first." in plain(form)
        client.post(page(user, "take_over"))
        assert stored(user).name == "Mary Ann Third"

    def test_who_may_not_replace_an_email_reads_why(self, sandbox, mary):
        editor = client_who_may("view_builderuser", "change_builderuser")
        form = text_of(editor.get(page_of(mary)))
        assert self.copies(editor, mary)["email"] == []
        [why] = re.findall(r"<dt>Copy to Clerk \(email\)</dt><dd>(.*?)</dd>", form)
        assert why.startswith("You don't have permission for this. Ask an administrator.")
        assert "Copy to Clerk (name)" not in form

    def test_an_account_that_is_deleted(self, client, sandbox):
        user = linked(sandbox)
        change_here(user, name="Mary Ann Green")
        ClerkAccount.objects.update(deleted_at=timezone.now())
        assert self.copies(client, user)["name"] == []
        words = "Copy from Clerk is not possible. The account is deleted in Clerk."
        assert words in plain(client.get(page_of(user)))


class TestAnAccountWithoutAName:
    """Clerk makes such an account when an invitation is accepted. It is no difference."""

    def test_the_pages_say_what_was_not_compared(self, client, sandbox):
        user = linked(sandbox, email="mary@example.com")
        sandbox.edit(user.clerk_id, first_name="", last_name="")
        client.post(page(user, "refresh"))
        assert shown(client) == {"mary@example.com": "in_step"}
        matches = "Matches Clerk No name in Clerk"
        assert matches in plain(client.get(reverse("admin:users_builderuser_changelist")))
        form = client.get(page_of(user))
        assert matches in plain(form)
        assert buttons(form, user, "push", "name") == ["Copy to Clerk (name)"]
        assert "No difference in what was read." in run("clerk_diff")[1]
        client.post(page(user, "push", "name"))
        assert "Matches Clerk" in plain(client.get(page_of(user)))
        assert "No name in Clerk" not in plain(client.get(page_of(user)))

    def test_a_banned_account_has_no_such_word(self, client, sandbox):
        user = linked(sandbox, clerk={"banned": True})
        sandbox.edit(user.clerk_id, first_name="", last_name="")
        client.post(page(user, "refresh"))
        assert "No name in Clerk" not in plain(client.get(page_of(user)))


class TestTheAddressOfTheSignIn:
    """Mary signs in with ann@example.com. The record here has mary@example.com."""

    def test_the_form_names_clerks_address(self, client, mary):
        form = plain(client.get(page_of(mary)))
        assert (
            "They sign in with ann@example.com: Clerk has that address, not mary@example.com."
            in form
        )
        assert "This email is how they sign in." not in form
        refused = plain(submit(client, mary, email="new@example.com"))
        assert "They sign in with ann@example.com" in refused
        assert "This email is how they sign in." not in refused

    def test_change_email_names_both(self, client, mary):
        words = plain(client.get(page(mary, "email")))
        assert "signs in with ann@example.com. Stored here is mary@example.com." in words

    def test_an_invitation_names_both(self, client, sandbox, mary):
        response = client.post(page(mary, "email"), {"email": "new@example.com", "how": "invite"})
        assert said(response)[-1] == (
            "Mary Ann Smith is invited to new@example.com, and signs in with ann@example.com "
            "(stored here: mary@example.com) until they accept."
        )

    def test_one_address_is_named_once(self, client, sandbox):
        user = linked(sandbox, email="jo@example.com")
        assert "This email is how they sign in." in plain(client.get(page_of(user)))
        words = plain(client.get(page(user, "email")))
        assert "signs in with jo@example.com." in words
        assert "Stored here" not in words


class TestChangeEmailToTheAddressThatIsStoredHere:
    def test_replace_now_brings_it_to_clerk(self, client, sandbox, mary):
        response = client.post(page(mary, "email"), {"email": mary.email, "how": "replace"})
        assert said(response)[-1] == "Mary Ann Smith now signs in with mary@example.com."
        assert [one["id"] for one in sandbox.find("mary@example.com")] == [mary.clerk_id]
        assert sandbox.find("ann@example.com") == []
        assert stored(mary).email == "mary@example.com"
        assert SyncAttempt.objects.get(operation="push_email").status == "applied"

    def test_an_invitation_offers_the_copy(self, client, sandbox, mary):
        response = client.post(page(mary, "email"), {"email": mary.email, "how": "invite"})
        assert "signs in with ann@example.com. No invitation is needed" in plain(response)
        assert f'<a href="{page(mary, "push", "email")}">Copy to Clerk</a>' in text_of(response)
        assert sandbox.writes() == []

    def test_without_a_difference_nothing_is_done(self, client, sandbox):
        user = linked(sandbox, email="jo@example.com")
        for how in ("invite", "replace"):
            response = client.post(page(user, "email"), {"email": user.email, "how": how})
            assert "This is the email that the user has." in plain(response)
        assert sandbox.writes() == []


class TestASaveThatChangesNothing:
    def test_it_warns_that_clerk_has_another_value(self, client, sandbox, mary):
        response = submit(client, mary)
        words = said(response)[-1]
        assert re.sub(r"<[^>]+>", "", words) == (
            "Nothing had to be saved: this is stored here already. But Clerk still has the email "
            "ann@example.com. Choose which one to use under Here and in Clerk."
        )
        assert f'href="{page_of(mary)}#clerk-panel"' in words
        assert colours(response)[-1] == "warning"
        assert 'id="clerk-panel"' in text_of(client.get(page_of(mary)))
        assert sandbox.writes() == []

    def test_it_names_both_values(self, client, sandbox):
        user = linked(sandbox, email="jo@example.com")
        sandbox.edit(user.clerk_id, last_name="Brown", email="new@example.com")
        change_here(user, name="Mary Ann Green", email="old@example.com")
        client.post(page(user, "refresh"))
        words = said(submit(client, stored(user)))[-1]
        assert "the name Mary Ann Brown and the email new@example.com" in words

    def test_it_is_quiet_where_both_match(self, client, sandbox):
        response = submit(client, linked(sandbox))
        assert said(response) == ["It is stored like this already; nothing had to be saved."]


class TestAnAccountForAnAddressThatClerkHas:
    @pytest.mark.parametrize("way", ["create_account", "invite"])
    def test_the_user_who_signs_in_with_it_is_named(self, client, sandbox, mary, ann, way):
        response = client.post(page(ann, way))
        assert "Mary Ann Smith has this address." in plain(response)
        assert f'<a href="{page_of(mary)}">Open Mary Ann Smith</a>' in text_of(response)
        assert "No user here is known" not in plain(response)
        assert not stored(ann).linked

    @pytest.mark.parametrize("way", ["create_account", "invite"])
    def test_a_free_account_is_found_by_the_link(self, client, sandbox, way):
        account = sandbox.add_user(email="free@example.com")
        user = BuilderUserFactory(email="free@example.com")
        response = client.post(page(user, way))
        link = f"{page(user, 'link')}?q=free%40example.com"
        assert f'<a href="{link}">Link to that account</a>' in text_of(response)
        assert account["id"] in text_of(client.get(link))


class TestWhoHasTheAccountOfADoubt:
    @pytest.fixture
    def duplicates(self, client, sandbox):
        """Two records with one name: one is linked, the other has the address of the account."""
        spare = BuilderUserFactory(name="Chloé Smith", email="chloe@example.com")
        holder = linked(sandbox, name="Chloé Smith", email="old@example.com")
        sandbox.edit(holder.clerk_id, email="chloe@example.com")
        client.post(page(holder, "refresh"))
        return stored(holder), spare

    def test_home_and_both_pages_name_and_link_both(self, client, duplicates):
        holder, spare = duplicates
        words = (
            "Clerk's email for Chloé Smith (old@example.com) is already used by Chloé Smith "
            "(chloe@example.com). If they are one person, delete the spare record. If they are "
            "two people, use Copy to Clerk on the page of Chloé Smith (old@example.com)."
        )
        for address in (reverse("admin:index"), page_of(holder), page_of(spare)):
            response = client.get(address)
            assert words in plain(response), address
            for user in duplicates:
                link = f'<a href="{page_of(user)}">Chloé Smith ({user.email})</a>'
                assert link in text_of(response), address

    def test_what_it_advises_for_two_people_works(self, client, sandbox, duplicates):
        holder, _ = duplicates
        client.post(page(holder, "push", "email"))
        assert sandbox.find("chloe@example.com") == []
        assert "is already used by" not in plain(client.get(reverse("admin:index")))
        assert "is already used by" not in plain(client.get(page_of(holder)))

    def test_what_it_advises_for_one_person_works(self, client, sandbox, duplicates):
        holder, spare = duplicates
        client.post(reverse("admin:users_builderuser_delete", args=[spare.pk]), {"post": "yes"})
        assert stored(holder).email == "chloe@example.com"
        assert "is already used by" not in plain(client.get(reverse("admin:index")))

    def test_a_name_is_shown_as_text(self, client, sandbox):
        BuilderUserFactory(name="<b>Bob</b>", email="bob@example.com")
        holder = linked(sandbox, email="old@example.com")
        sandbox.edit(holder.clerk_id, email="bob@example.com")
        client.post(page(holder, "refresh"))
        assert "<b>Bob" not in client.get(page_of(holder)).content.decode()


class TestTheSearchByWhatOnlyClerkHas:
    """A caller says the address with which they sign in, or the name that they gave in Clerk."""

    @pytest.fixture
    def jo(self, client, sandbox):
        user = linked(sandbox, name="Jo Field", email="jo@example.com")
        change_here(user, name="Josephine Field", email="josephine@example.com")
        sandbox.edit(user.clerk_id, last_name="Müller", email="call@other.example")
        client.post(page(user, "refresh"))
        linked(sandbox, name="Bob Brown", email="bob@example.com")
        return user

    @pytest.mark.parametrize("words", ["call@other", "muller", "josephine muller", "josephine@"])
    def test_it_finds_the_person(self, client, jo, words):
        assert [*shown(client, q=words)] == ["josephine@example.com"]

    def test_it_forgets_what_clerk_has_no_more(self, client, sandbox, jo):
        for field in ("name", "email"):
            client.post(page(jo, "push", field))
        assert [*shown(client, q="call@other")] == [*shown(client, q="muller")] == []

    def test_the_migration_brings_in_those_that_differ_already(self, client, jo):
        try:
            migrate([("users", "0025_invitations_that_wait_already")])
            assert [*shown(client, q="call@other")] == []
        finally:
            migrate_forward()
        assert [*shown(client, q="call@other")] == ["josephine@example.com"]
