"""Who may become what: no page, action, popup or page of `auth` leads from a lower role to a
higher one. The administrator is a row with the role ADMIN; the attackers are staff without
`manage_admins`, and staff who may edit staff."""

from __future__ import annotations

import html
import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core import mail
from django.db import connection
from django.test import Client
from django.urls import reverse

from tests.support.bulk_pages import planned
from tests.support.change_form import form_of, page_of, said, stored, text_of
from tests.support.commands import run
from tests.support.events import arrive
from tests.support.factories import (
    BuilderUserFactory,
    StaffFactory,
    SyncAttemptFactory,
    change_here,
    linked,
)
from tests.support.personas import browser_of, client_who_may, staff_in, staff_who_may
from tests.support.sign_in import with_password
from tests.support.unknown import time_is_over
from tests.support.workers import work
from users.models import BuilderUser, BulkRun, Invitation, SyncAttempt
from users.sync import maintenance
from users.sync.access.groups import STAFF
from users.sync.access.permissions import NO_PERMISSION
from users.sync.actors import service_user
from users.sync.outbound import checkpoints, recovery

pytestmark = pytest.mark.django_db(transaction=True)

LIST, ADD = "/admin/users/builderuser/", "/admin/users/builderuser/add/"
ADMIN = {"role": "ADMIN", "internal_role": "Administrator"}
PASSWORD = {"password1": "correct horse battery 7", "password2": "correct horse battery 7"}


@pytest.fixture
def manager(db):
    """A person with every permission that a group gives, but not `manage_admins`."""
    return browser_of(staff_in("Manager", "Engineer"))


def own_page(user: BuilderUser, name: str, *args: str) -> str:
    return reverse(f"admin:users_builderuser_{name}", args=[user.pk, *args])


def everything_of(user: BuilderUser, sandbox: Any) -> tuple[Any, ...]:
    """What both stores hold of a user."""
    return (
        BuilderUser.objects.filter(pk=user.pk).values().first(),
        sandbox.user(user.clerk_id) if user.clerk_id else None,
        list(Invitation.objects.values("email", "status")),
    )


def told(response: Any) -> str:
    page = re.sub(r"</?a\b[^>]*>", "", text_of(response))  # texts link the people whom they name
    return html.unescape(" ".join([page, *said(response)]))


# --- An administrator whose account exists -------------------------------------------------------

Deed = Callable[[Any, BuilderUser], Any]


def on_page(name: str, *args: str, **form: str) -> Deed:
    return lambda client, user: client.post(own_page(user, name, *args), form)


def on_form(**typed: str) -> Deed:
    return lambda client, user: client.post(page_of(user), form_of(user, **typed))


AGAINST_A_LINKED_ADMIN: dict[str, Deed] = {
    "set the password": on_page("password", **PASSWORD),
    "replace the email": on_page("email", email="mine@example.com", how="replace"),
    "invite to another email": on_page("email", email="mine@example.com", how="invite"),
    "copy the email to Clerk": on_page("push", "email"),
    "copy the email from Clerk": on_page("pull", "email"),
    "ban": on_page("ban"),
    "unban": on_page("unban"),
    "reset two-factor sign-in": on_page("reset_mfa"),
    "disconnect": on_page("unlink"),
    "delete": on_page("delete", post="yes"),
    "take the role away": on_form(role="BUILDER", internal_role=""),
    "change the internal role": on_form(internal_role="Employee"),
    "type another email": on_form(email="mine@example.com"),
    "in a popup": on_form(role="BUILDER", internal_role="", _popup="1"),
    "as a new user": on_form(email="mine@example.com", _saveasnew="1"),
}


@pytest.fixture
def admin(sandbox):
    """An administrator whose email in Clerk differs, so that there is something to copy."""
    user = linked(sandbox, email="boss@example.com", clerk={"totp_enabled": True}, **ADMIN)
    user.account.email = "other@example.com"
    user.account.save()
    sandbox.edit(user.clerk_id, email="other@example.com")
    sandbox.clear_requests()
    return user


@pytest.mark.parametrize("deed", AGAINST_A_LINKED_ADMIN)
def test_a_manager_has_no_power_over_an_administrator(sandbox, manager, admin, deed):
    before = everything_of(admin, sandbox)
    response = AGAINST_A_LINKED_ADMIN[deed](manager, admin)
    assert everything_of(admin, sandbox) == before
    assert sandbox.writes() == []
    assert sandbox.mails() == []
    assert str(NO_PERMISSION) in told(response)
    assert BuilderUser.objects.count() == 1


@pytest.mark.parametrize("action", ["ban", "delete"])
def test_the_pages_for_many_people_leave_an_administrator_out(sandbox, manager, admin, action):
    before = everything_of(admin, sandbox)
    assert "Left out: 1 user with the role Admin" in told(planned(manager, [admin], action=action))
    assert not BulkRun.objects.exists()
    assert everything_of(admin, sandbox) == before


@pytest.mark.parametrize("deed", ["set the password", "ban", "take the role away"])
def test_who_manages_administrators_may(sandbox, admin, deed):
    staff = staff_in("Manager")
    staff.user_permissions.set(staff_who_may("users.manage_admins").user_permissions.all())
    before = everything_of(admin, sandbox)
    response = AGAINST_A_LINKED_ADMIN[deed](browser_of(staff), admin)
    assert response.status_code == 302
    assert everything_of(admin, sandbox) != before


def test_using_clerks_version_moves_no_email_of_an_administrator(sandbox, manager, admin):
    before = everything_of(admin, sandbox)
    response = manager.post(own_page(admin, "take_over"))
    assert str(NO_PERMISSION) in told(response)
    assert everything_of(admin, sandbox) == before


BY_A_COLLEAGUE: dict[str, dict[str, Any]] = {
    "a ban": {"operation": "ban", "changes": {"banned": [False, True]}},
    "a password": {"operation": "set_password", "changes": {"password": ["", "(set)"]}},
    "a role": {"operation": "update", "changes": {"role": ["BUILDER", "HOMEOWNER"]}},
    "an invitation": {
        "operation": "invite",
        "changes": {"invitation": [None, "n@example.com"]},
        "details": {
            "invitation": {
                "email": "n@example.com",
                "reference": str(uuid.uuid4()),
                "purpose": "email_change",
                "invited_by": None,
            }
        },
    },
}


@pytest.mark.parametrize("change", BY_A_COLLEAGUE)
def test_using_clerks_version_discards_no_change_that_one_may_not_make(sandbox, manager, change):
    user, editor = linked(sandbox), browser_of(staff_in("Editor"))
    own = SyncAttemptFactory(user=user, changes={"name": [user.name, "Mary Ann Jones"]})
    theirs = SyncAttemptFactory(user=user, **BY_A_COLLEAGUE[change])
    page = text_of(editor.get(page_of(user)))
    assert "You cannot discard these changes. You don't have permission" in html.unescape(page)
    assert "Use Clerk's version" not in html.unescape(page)
    response = editor.post(own_page(user, "take_over"), follow=True)
    assert str(NO_PERMISSION) in told(response)
    assert "Missing permission" in told(response)
    assert SyncAttempt.objects.pending().count() == 2
    assert "Use Clerk's version" in html.unescape(text_of(manager.get(page_of(user))))
    manager.post(own_page(user, "take_over"))
    for attempt in (own, theirs):
        attempt.refresh_from_db()
        assert (attempt.status, attempt.error_code) == ("dropped", "taken_over")


# --- An administrator without an account: whoever is connected to the row becomes one ------------


def open_invitation(user: BuilderUser) -> Invitation:
    return Invitation.objects.create(
        user=user, purpose="new_account", email=user.email, clerk_invitation_id="inv_1"
    )


def resend(client: Any, user: BuilderUser) -> Any:
    [invitation] = Invitation.objects.all()
    return client.post(reverse("admin:users_invitation_resend", args=[invitation.pk]))


def revoke(client: Any, user: BuilderUser) -> Any:
    [invitation] = Invitation.objects.all()
    return client.post(reverse("admin:users_invitation_revoke", args=[invitation.pk]))


def link_to_mine(client: Any, user: BuilderUser) -> Any:
    return client.post(own_page(user, "link"), {"clerk_id": "user_mine"})


AGAINST_AN_ADMIN_WITHOUT_ACCOUNT: dict[str, Deed] = {
    "connect an own account": link_to_mine,
    "invite": on_page("invite"),
    "send the invitation again": resend,
    "revoke the invitation": revoke,
    "type an own email": on_form(email="mine@example.com"),
    "delete": on_page("delete", post="yes"),
}


@pytest.mark.parametrize("deed", AGAINST_AN_ADMIN_WITHOUT_ACCOUNT)
def test_a_manager_cannot_take_the_place_of_an_administrator(sandbox, manager, deed):
    user = BuilderUserFactory(email="boss@example.com", **ADMIN)
    sandbox.add_user(id="user_mine", email="mine@example.com")
    open_invitation(user)
    sandbox.clear_requests()
    before = everything_of(user, sandbox)
    response = AGAINST_AN_ADMIN_WITHOUT_ACCOUNT[deed](manager, user)
    assert everything_of(user, sandbox) == before
    assert sandbox.requests() == []
    assert str(NO_PERMISSION) in told(response)


# --- To become an administrator ------------------------------------------------------------------


@pytest.mark.parametrize("popup", [{}, {"_popup": "1"}, {"_continue": "1"}])
@pytest.mark.parametrize("group", ["Editor", "Support", "Manager"])
def test_nobody_is_made_an_administrator_on_the_form(sandbox, group, popup):
    user, client = linked(sandbox), browser_of(staff_in(group))
    for typed in (ADMIN, {"role": "ADMIN"}):
        response = client.post(page_of(user), form_of(user, **typed, **popup))
        assert str(NO_PERMISSION) in told(response)
        assert stored(user).role == "BUILDER"
    new = {"name": "Bob", "email": "bob@example.com", "role": "ADMIN", "account": "none", **popup}
    response = client.post(ADD, new)
    assert str(NO_PERMISSION) in told(response)
    assert list(BuilderUser.objects.all()) == [user]
    assert sandbox.requests() == []


@pytest.mark.parametrize("account", ["invite", "create"])
def test_an_editor_gives_nobody_a_sign_in(sandbox, account):
    client = browser_of(staff_in("Editor"))
    response = client.post(
        ADD, {"name": "Bob", "email": "bob@example.com", "role": "BUILDER", "account": account}
    )
    assert str(NO_PERMISSION) in told(response)
    assert not BuilderUser.objects.exists()
    assert sandbox.requests() == []


def test_an_editor_changes_no_role_and_no_password(sandbox):
    user, client = linked(sandbox), browser_of(staff_in("Editor"))
    assert str(NO_PERMISSION) in told(client.post(page_of(user), form_of(user, role="HOMEOWNER")))
    assert str(NO_PERMISSION) in told(client.post(own_page(user, "password"), PASSWORD))
    assert stored(user).role == "BUILDER"
    assert sandbox.requests() == []


def test_a_user_who_becomes_an_administrator_meanwhile_is_not_banned(sandbox, manager):
    """The page was opened for a builder: the role that counts is the one under the lock."""
    user = linked(sandbox)

    def promote(sender, step, **_):
        if step == checkpoints.AFTER_ATTEMPT:
            change_here(user, role="ADMIN")

    checkpoints.reached.connect(promote)
    try:
        response = manager.post(own_page(user, "ban"))
    finally:
        checkpoints.reached.disconnect(promote)
    assert str(NO_PERMISSION) in told(response)
    assert SyncAttempt.objects.get().status == "refused"
    assert sandbox.writes() == []


@pytest.mark.parametrize("meanwhile", ["the user is an administrator", "the author has left"])
def test_a_ban_is_not_sent_again_by_who_may_not_make_it_any_more(sandbox, manager, meanwhile):
    user = linked(sandbox)
    sandbox.fault("POST /users/{user_id}/ban", "status", status=500, times=1)
    manager.post(own_page(user, "ban"))
    if "administrator" in meanwhile:
        change_here(user, role="ADMIN")
    else:
        User.objects.update(is_active=False)
    sandbox.clear_requests()
    time_is_over()
    [ended] = recovery.recover_all()
    assert ended.outcome == SyncAttempt.objects.get().status == "refused"
    assert ended.message.startswith(f"It was not sent again. {NO_PERMISSION}")
    assert sandbox.writes() == []
    assert not sandbox.user(user.clerk_id)["banned"]


def test_an_invitation_from_before_makes_nobody_an_administrator(client, sandbox):
    """Support may invite a builder to any address, and the user be promoted before it is used."""
    support, user = client_who_may("view_builderuser", "invite"), linked(sandbox)
    support.post(own_page(user, "email"), {"email": "mine@example.com", "how": "invite"})
    page = told(client.post(page_of(user), form_of(user, **ADMIN)))
    assert "The invitation to mine@example.com is still open" in page
    assert stored(user).role == "BUILDER"
    client.post(page_of(user), form_of(user, role="HOMEOWNER"))
    assert stored(user).role == "HOMEOWNER"
    revoke = reverse("admin:users_invitation_revoke", args=[Invitation.objects.get().pk])
    client.post(revoke)
    user = stored(user)
    client.post(page_of(user), form_of(user, **ADMIN))
    assert stored(user).role == "ADMIN"


def test_an_invitation_whose_outcome_is_not_known_makes_nobody_an_administrator(client, sandbox):
    support, user = client_who_may("view_builderuser", "invite"), linked(sandbox)
    sandbox.fault("POST /invitations", "late", seconds=None, how="close")
    support.post(own_page(user, "email"), {"email": "mine@example.com", "how": "invite"})
    page = told(client.post(page_of(user), form_of(user, **ADMIN)))
    assert "is not confirmed by Clerk yet, and may still arrive there" in page
    sandbox.apply_late()
    page = told(client.post(page_of(user), form_of(user, **ADMIN)))
    assert "The invitation to mine@example.com is still open" in page
    assert stored(user).role == "BUILDER"


def test_an_invitation_to_the_own_email_may_become_one_of_an_administrator(client, sandbox):
    support, user = client_who_may("view_builderuser", "invite"), BuilderUserFactory()
    support.post(own_page(user, "invite"))
    client.post(page_of(user), form_of(user, **ADMIN))
    assert stored(user).role == "ADMIN"
    account = sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    assert stored(user).clerk_id == account["id"]


def promoted_elsewhere(user: BuilderUser) -> None:
    """The other application, of which nothing is trusted, makes the row an administrator."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE users SET role = 'ADMIN' WHERE id = %s", [user.pk])


@pytest.mark.parametrize("address", ["own", "other"])
def test_an_invitation_gives_no_row_that_became_an_administrators_elsewhere(
    client, sandbox, address
):
    support = client_who_may("view_builderuser", "invite")
    user = BuilderUserFactory(email="mine@example.com") if address == "own" else linked(sandbox)
    before = user.clerk_id
    if address == "own":
        support.post(own_page(user, "invite"))
    else:
        support.post(own_page(user, "email"), {"email": "mine@example.com", "how": "invite"})
    promoted_elsewhere(user)
    account = sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    maintenance.run()
    assert (stored(user).clerk_id, stored(user).role) == (before, "ADMIN")
    reason = (
        f"{account['id']} accepted an invitation to mine@example.com. Whoever sent it may not "
        "manage administrators, and this user has become one since. Nothing was linked. Link the "
        "account by hand if it is the same person."
    )
    assert reason in told(client.get(page_of(user)))
    assert reason in told(client.get("/admin/"))
    # Who may manage administrators decides.
    client.post(own_page(user, "link"), {"clerk_id": account["id"]})
    if address == "own":
        assert stored(user).clerk_id == account["id"]
        assert reason not in told(client.get("/admin/"))


def test_a_row_that_is_no_administrators_any_more_is_given_to_whom_it_was_promised(sandbox):
    support, user = client_who_may("view_builderuser", "invite"), BuilderUserFactory()
    support.post(own_page(user, "invite"))
    promoted_elsewhere(user)
    account = sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    assert not stored(user).linked
    change_here(user, role="BUILDER")
    sandbox.edit(account["id"], last_name="Jones")
    arrive(sandbox)
    assert stored(user).clerk_id == account["id"]


@pytest.mark.parametrize("promoted", ["before", "elsewhere"])
def test_who_may_manage_administrators_may_invite_one(sandbox, promoted):
    manager = client_who_may("view_builderuser", "invite", "manage_admins")
    user = BuilderUserFactory(**(ADMIN if promoted == "before" else {}))
    manager.post(own_page(user, "invite"))
    promoted_elsewhere(user)
    account = sandbox.accept(sandbox.invitations()[0]["id"])
    arrive(sandbox)
    assert stored(user).clerk_id == account["id"]
    assert Invitation.objects.get().status == "accepted"


def test_a_refusal_is_in_the_journal(sandbox, manager):
    user = linked(sandbox)
    manager.post(page_of(user), form_of(user, role="ADMIN"))
    attempt = SyncAttempt.objects.get()
    assert (attempt.status, attempt.error_code) == ("refused", "not_allowed")
    assert attempt.changes == {"role": ["BUILDER", "ADMIN"]}


# --- What stays allowed --------------------------------------------------------------------------


def test_an_editor_edits_the_name_and_group_of_an_administrator(sandbox):
    user, client = linked(sandbox, **ADMIN), browser_of(staff_in("Editor"))
    page = client.get(page_of(user))
    assert page.context["adminform"].form.context.offers.locked == {
        "email",
        "role",
        "internal_role",
    }
    # A browser does not send what is disabled.
    sent = {key: value for key, value in form_of(user, name="Mary Ann Jones").items()
            if key not in ("email", "role", "internal_role")}  # fmt: skip
    assert client.post(page_of(user), sent).status_code == 302
    assert stored(user).name == "Mary Ann Jones"
    assert (stored(user).role, stored(user).internal_role) == ("ADMIN", "Administrator")
    assert stored(user).email == user.email
    assert sandbox.user(user.clerk_id)["last_name"] == "Jones"


@pytest.mark.parametrize("page", ["sign_out", "unlock"])
def test_support_helps_an_administrator_to_sign_in(sandbox, page):
    user = linked(sandbox, clerk={"locked": True}, **ADMIN)
    response = browser_of(staff_in("Support")).post(own_page(user, page))
    assert response.status_code == 302
    assert SyncAttempt.objects.get().status == "applied"


def test_a_manager_changes_roles_below_administrator(sandbox, manager):
    user = linked(sandbox)
    page = text_of(manager.get(page_of(user)))
    assert '<option value="HOMEOWNER"' in page
    assert '<option value="ADMIN"' not in page
    assert "Missing permission: “Can manage the sign-in and role of users" in page
    assert manager.post(page_of(user), form_of(user, role="HOMEOWNER")).status_code == 302
    assert stored(user).role == "HOMEOWNER"


def test_a_command_acts_as_the_system_in_anybodys_name(sandbox, tmp_path):
    """Who runs commands on the server can write the tables anyway."""
    user, staff = linked(sandbox), staff_who_may()
    file = tmp_path / "roles.csv"
    file.write_text(f"email,role,internal_role\n{user.email},ADMIN,Employee\n")
    code, words = run(
        "update_users", file, "--apply", "--no-refresh", "--actor", staff.get_username()
    )
    assert code == 0, words
    assert stored(user).role == "ADMIN"
    assert SyncAttempt.objects.get().actor == staff


# --- The pages of `auth` -------------------------------------------------------------------------


@pytest.fixture
def office(db):
    """Who may edit staff and groups, and builder users besides."""
    staff = staff_in("Editor")
    staff.user_permissions.set(staff_who_may(*STAFF).user_permissions.all())
    return staff


def user_form(user: User, **typed: Any) -> dict[str, Any]:
    form: dict[str, Any] = {
        "username": user.username,
        "is_active": "on" if user.is_active else "",
        "is_staff": "on" if user.is_staff else "",
        "groups": [group.pk for group in user.groups.all()],
        "date_joined_0": f"{user.date_joined:%Y-%m-%d}",
        "date_joined_1": f"{user.date_joined:%H:%M:%S}",
        **typed,
    }
    return {name: value for name, value in form.items() if value != ""}


def user_page(user: User, page: str = "change") -> str:
    return reverse(f"admin:auth_user_{page}", args=[user.pk])


def powers(*users: User) -> list[tuple[Any, ...]]:
    """What counts of staff: who they are, whether they may sign in, and all that they may do."""
    return [
        (
            user.username, user.password, user.is_active, user.is_staff, user.is_superuser,
            sorted(user.groups.values_list("name", flat=True)),
            sorted(user.user_permissions.values_list("codename", flat=True)),
        )
        for user in User.objects.filter(pk__in=[one.pk for one in users]).order_by("pk")
    ]  # fmt: skip


def pk_of(group: str) -> list[int]:
    return [Group.objects.get(name=group).pk]


@pytest.mark.parametrize(
    "typed",
    [
        {"is_superuser": "on"},
        {"groups": "Manager"},
        {"groups": "Viewer"},
        {"user_permissions": "all"},
        {"is_superuser": "on", "_popup": "1"},
    ],
    ids=lambda typed: " ".join(typed),
)
def test_nobody_raises_themselves(office, typed):
    typed = dict(typed)
    if "groups" in typed:
        typed["groups"] = pk_of(typed["groups"])
    if "user_permissions" in typed:
        everything = staff_who_may("users.ban", "users.manage_admins").user_permissions
        typed["user_permissions"] = list(everything.values_list("pk", flat=True))
    before = powers(office)
    browser_of(office).post(user_page(office), user_form(office, **typed))
    assert powers(office) == before


def test_nobody_raises_a_colleague_above_themselves(office):
    colleague, client = StaffFactory(is_superuser=False), browser_of(office)
    before = powers(colleague)
    ban = staff_who_may("users.ban").user_permissions.get().pk
    for typed in (
        {"is_superuser": "on"}, {"groups": pk_of("Manager")}, {"user_permissions": [ban]},
    ):  # fmt: skip
        client.post(user_page(colleague), user_form(colleague, **typed))
        assert powers(colleague) == before


def test_a_colleague_gets_what_the_giver_holds(office):
    colleague, client = StaffFactory(is_superuser=False), browser_of(office)
    form = user_form(colleague, groups=pk_of("Viewer"))
    assert client.post(user_page(colleague), form).status_code == 302
    assert [group.name for group in colleague.groups.all()] == ["Viewer"]


@pytest.mark.parametrize(
    "above",
    ["superuser", "superuser who is switched off", "manager who is switched off", "manager"],
)
def test_nobody_edits_who_stands_above_them(office, above):
    other = staff_in("Manager") if "manager" in above else StaffFactory()
    if "off" in above:
        User.objects.filter(pk=other.pk).update(is_active=False)
        other.refresh_from_db()
    client, before = browser_of(office), powers(other)
    password = {"password1": "correct horse 7", "password2": "correct horse 7",
                "usable_password": "true"}  # fmt: skip
    answers = [
        client.post(user_page(other), user_form(other, is_active="on", username="taken-over")),
        client.post(user_page(other, "password_change"), {**password, "set-password": "1"}),
        client.post(user_page(other, "delete"), {"post": "yes"}),
    ]
    client.post(
        "/admin/auth/user/",
        {"action": "delete_selected", "_selected_action": [other.pk], "post": "yes"},
    )
    assert [answer.status_code for answer in answers] == [403, 403, 403]
    assert powers(other) == before


def test_nobody_takes_the_name_of_the_application(office):
    """The service user cannot sign in, and is named in the journal as the author."""
    service, before = service_user(), powers(service_user())
    response = browser_of(office).post(user_page(service), user_form(service, is_active="on"))
    assert response.status_code == 403
    assert powers(service) == before


@pytest.mark.parametrize("name", ["cascade", "Cascade"])
def test_the_name_of_the_application_is_reserved(office, name):
    form = {"username": name, "usable_password": "false"}
    page = browser_of(office).post(reverse("admin:auth_user_add"), form)
    assert "This name is reserved." in text_of(page)
    assert not User.objects.filter(username__iexact=name).exists()


def test_whoever_had_the_name_of_the_application_cannot_sign_in_any_more():
    User.objects.create_user("cascade", password="a password of theirs", is_staff=True)
    service_user()
    assert not Client().login(username="cascade", password="a password of theirs")


@pytest.mark.parametrize("name", ["Manager", "manager"])
def test_names_of_groups_that_are_filled_by_themselves_are_reserved(office, name):
    Group.objects.filter(name="Manager").delete()
    page = browser_of(office).post(reverse("admin:auth_group_add"), {"name": name})
    assert "This name is reserved." in text_of(page)
    assert not Group.objects.filter(name__iexact=name).exists()


@pytest.mark.parametrize("issuer", ["", "https://company.example"], ids=["mail", "company"])
def test_nobody_is_given_the_email_by_which_a_person_gets_in(office, settings, issuer):
    """A link for a new password goes there, and a company account is bound by it."""
    settings.OIDC_ISSUER = issuer
    colleague = StaffFactory(is_superuser=False, email="colleague@company.example")
    for user in (colleague, office):
        browser_of(office).post(user_page(user), user_form(user, email="mine@company.example"))
        assert User.objects.get(pk=user.pk).email == user.email


def test_an_email_set_before_a_promotion_mails_no_password_afterwards(office):
    """The colleague would notice nothing: their own password goes on."""
    colleague = with_password(StaffFactory(is_superuser=False, email="colleague@example.com"))
    browser_of(office).post(user_page(colleague), user_form(colleague, email="mine@example.com"))
    chief = browser_of(StaffFactory())
    promoted = user_form(colleague, email=stored_email(colleague), is_superuser="on")
    assert chief.post(user_page(colleague), promoted).status_code == 302
    Client().post(reverse("admin_password_reset"), {"email": "mine@example.com"})
    work()
    assert mail.outbox == []


def test_a_superuser_gives_a_colleague_an_email(office):
    colleague = StaffFactory(is_superuser=False)
    form = user_form(colleague, email="colleague@example.com")
    assert browser_of(StaffFactory()).post(user_page(colleague), form).status_code == 302
    assert stored_email(colleague) == "colleague@example.com"


def stored_email(user: User) -> str:
    return User.objects.get(pk=user.pk).email


@pytest.mark.parametrize("spelled", ["{}", "0{}", "+{}", "_2B{}"])
def test_the_own_password_needs_the_old_one_on_every_page(office, spelled):
    """The admin reads `05`, `+5` and its own `_2B5` as the id 5, too."""
    page = f"/admin/auth/user/{spelled.format(office.pk)}/password/"
    form = {"password1": "a new password 1", "password2": "a new password 1",
            "usable_password": "true"}  # fmt: skip
    response = browser_of(office).post(page, form)
    assert response.url == reverse("admin:password_change")
    assert not User.objects.get(pk=office.pk).check_password("a new password 1")


def test_nobody_adds_to_their_own_group_or_to_a_stronger_one(office):
    client = browser_of(office)
    for name in ("Editor", "Manager"):
        group = Group.objects.get(name=name)
        before = set(group.permissions.all())
        page = reverse("admin:auth_group_change", args=[group.pk])
        assert client.post(page, {"name": name, "permissions": []}).status_code == 403
        assert client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
        assert set(group.permissions.all()) == before


def test_a_new_group_gives_only_what_its_maker_holds(office):
    ban = staff_who_may("users.ban").user_permissions.get()
    view = staff_who_may("users.view_builderuser").user_permissions.get()
    client, page = browser_of(office), reverse("admin:auth_group_add")
    refused = client.post(page, {"name": "Mine", "permissions": [view.pk, ban.pk]})
    assert "permissions" in refused.context["adminform"].form.errors
    assert not Group.objects.filter(name="Mine").exists()
    assert client.post(page, {"name": "Mine", "permissions": [view.pk]}).status_code == 302


def test_a_new_colleague_is_no_superuser(office):
    new = {"username": "new", "usable_password": "true", "is_superuser": "on",
           "password1": "correct horse 7", "password2": "correct horse 7"}  # fmt: skip
    browser_of(office).post(reverse("admin:auth_user_add"), new)
    made = User.objects.get(username="new")
    assert (made.is_staff, made.is_superuser, made.get_all_permissions()) == (False, False, set())
