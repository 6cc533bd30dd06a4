"""Every URL, list action and kind of change against every permission and every group of staff.

A URL, action or kind that is not in the tables fails here: decide who may use it, then add it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator
from itertools import chain, product
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client, RequestFactory
from procrastinate.contrib.django import app

from tests.support.addresses import World, patterns
from tests.support.personas import browser_of, give, staff_in, staff_who_may
from users.models import BuilderUser, OperationKind
from users.sync.access import groups, permissions

pytestmark = pytest.mark.django_db

Rule = list[set[str]]
"""Alternatives: each is a set of permissions that are needed together."""


def one_of(*names: str) -> Rule:
    return [{name} for name in names]


def both(first: Rule, *names: str) -> Rule:
    """One of `first`, together with one of `names`."""
    return [alternative | {name} for alternative in first for name in names]


STAFF: Rule = [set()]
NOBODY: Rule = []
EVERYBODY: Rule = [{"anonymous"}]
OTHER_METHOD = None
"""The method is answered 405, whoever asks."""

SEE = one_of("users.view_builderuser", "users.change_builderuser")
CHANGE = one_of("users.change_builderuser")


SUPERUSERS = "nobody's permission"


def seen(model: str) -> Rule:
    """Django shows what somebody may look at, or change."""
    app, name = model.split(".")
    return one_of(f"{app}.view_{name}", f"{app}.change_{name}")


def pages_of(
    model: str, *, edited: bool, seen_by: Rule | None = None, exported: bool = False
) -> dict[str, tuple[Any, Any]]:
    """Django's pages of a model; records that nobody edits have a permission to look alone."""
    app, name = model.split(".")
    see = seen_by or seen(model)

    def needs(action: str) -> Rule:
        return one_of(f"{app}.{action}_{name}") if edited else NOBODY

    page = f"{app}_{name}"
    return {
        **({f"{page}_export": (see, OTHER_METHOD)} if exported else {}),
        f"{page}_changelist": (see, see),
        f"{page}_add": (needs("add"), needs("add")),
        f"{page}_history": (see, see),
        f"{page}_delete": (needs("delete"), needs("delete")),
        f"{page}_change": (see, needs("change")),
        f"admin/{app}/{name}/<path:object_id>/": (STAFF, STAFF),  # leads to the page before
    }


def same(rule: Rule) -> tuple[Rule, Rule]:
    return rule, rule


ADD_STAFF: Rule = [{"auth.add_user", "auth.change_user"}]
URLS: dict[str, tuple[Any, Any]] = {
    "": same(EVERYBODY),
    "clerk_webhook": (OTHER_METHOD, EVERYBODY),
    "login": same(EVERYBODY),
    "logout": (OTHER_METHOD, EVERYBODY),
    "index": same(STAFF),
    "password_change": same(STAFF),
    "password_change_done": same(STAFF),
    "jsi18n": same(STAFF),
    "app_list": same(STAFF),
    "admin/(?P<url>.*)$": same(STAFF),
    "autocomplete": (
        one_of("users.view_buildergroup", "users.change_buildergroup"), OTHER_METHOD,
    ),
    **pages_of("procrastinate.procrastinatejob", edited=False, seen_by=[{SUPERUSERS}]),
    **pages_of("users.buildergroup", edited=True),
    **pages_of("users.builderuser", edited=True, exported=True),
    "users_builderuser_bulk": same(
        [*CHANGE, *both(SEE, "users.delete_builderuser", "users.ban", "users.invite")]
    ),
    "users_builderuser_bulk_upload": same(CHANGE),
    "users_builderuser_bulk_run": (  # of another person; one's own run is open to its author
        both(SEE, "users.view_bulkrun"), [{"users.change_builderuser", "users.view_bulkrun"}],
    ),
    "users_builderuser_bulk_result": (both(SEE, "users.view_bulkrun"), OTHER_METHOD),
    "users_builderuser_quick": (OTHER_METHOD, CHANGE),
    "users_builderuser_push": same(CHANGE),
    "users_builderuser_pull": same(CHANGE),
    "users_builderuser_check": same(CHANGE),
    "users_builderuser_take_over": same(CHANGE),
    "users_builderuser_refresh": same(CHANGE),
    "users_builderuser_email": same(both(SEE, "users.invite", "users.replace_email")),
    "users_builderuser_password": same(both(SEE, "users.set_password")),
    "users_builderuser_sign_out": same(both(SEE, "users.sign_out")),
    "users_builderuser_sessions": (CHANGE, both(SEE, "users.sign_out")),
    "users_builderuser_create_account": same(both(SEE, "users.create_account")),
    "users_builderuser_unlock": same(both(SEE, "users.unlock")),
    "users_builderuser_reset_mfa": same(both(SEE, "users.reset_mfa")),
    "users_builderuser_unban": same(both(SEE, "users.ban")),
    "users_builderuser_ban": same(both(SEE, "users.ban")),
    "users_builderuser_unlink": same(both(SEE, "users.link")),
    "users_builderuser_link": same(both(SEE, "users.link")),
    "users_builderuser_invite": same(both(SEE, "users.invite")),
    **pages_of("users.syncattempt", edited=False, exported=True),
    "users_syncattempt_check": (
        OTHER_METHOD, both(seen("users.syncattempt"), "users.change_builderuser"),
    ),
    "users_syncattempt_dismiss": (OTHER_METHOD, STAFF),  # of one's own changes alone
    **pages_of("users.clerkaccount", edited=False),
    **pages_of("users.bulkrun", edited=False, exported=True),
    **pages_of("users.bulkrow", edited=False),
    **pages_of("users.invitation", edited=False, exported=True),
    "users_invitation_resend": same(both(SEE, "users.invite")),
    "users_invitation_revoke": same(both(SEE, "users.invite")),
    **pages_of("users.webhookdelivery", edited=False, exported=True),
    "users_webhookdelivery_replay": (
        OTHER_METHOD, both(seen("users.webhookdelivery"), "users.replay_webhook"),
    ),
    **pages_of("auth.user", edited=True),
    "auth_user_add": same(ADD_STAFF),
    "auth_user_delete": same([{SUPERUSERS}]),
    "auth_user_password_change": same(one_of("auth.change_user")),
    # The sign-ins of staff are for superusers: their permissions are offered to nobody.
    **pages_of("staff.signinevent", edited=False),
    **pages_of("staff.provideraccount", edited=False),
    "staff_provideraccount_delete": same([{SUPERUSERS}]),
    "staff_two_step": same(STAFF),
    "staff_code": same(STAFF),  # leads on where no code is due
    "staff_company_start": same(EVERYBODY),
    "staff_company_callback": (EVERYBODY, OTHER_METHOD),
    "admin_password_reset": same(EVERYBODY),
    "password_reset_done": (EVERYBODY, OTHER_METHOD),
    "password_reset_confirm": same(EVERYBODY),
    "password_reset_complete": (EVERYBODY, OTHER_METHOD),
    # No session counts at the front end's addresses: see the tests of the API.
    "update_clerk_user": (OTHER_METHOD, EVERYBODY),
    "update_user": (OTHER_METHOD, OTHER_METHOD),
    "sync_user": (OTHER_METHOD, EVERYBODY),
    "favicon": same(EVERYBODY),
    "api/": same(EVERYBODY),
    "api/<path:rest>": same(EVERYBODY),
    **pages_of("auth.group", edited=True),
}  # fmt: skip
"""Name of the URL, or its pattern if it has no name → who may GET it, and who may POST."""

ACTIONS: dict[tuple[str, str], Rule] = {
    ("users.builderuser", "change_many"): URLS["users_builderuser_bulk"][0],
    ("users.builderuser", "export_selected"): one_of("users.view_builderuser"),
    ("users.buildergroup", "delete_selected"): one_of("users.delete_buildergroup"),
    ("users.webhookdelivery", "replay"): one_of("users.replay_webhook"),
    ("staff.signinevent", "unlock_accounts"): one_of(SUPERUSERS),
    ("staff.signinevent", "unlock_addresses"): one_of(SUPERUSERS),
    ("staff.provideraccount", "delete_selected"): one_of(SUPERUSERS),
    ("auth.group", "delete_selected"): one_of("auth.delete_group"),
    ("procrastinate.procrastinatejob", "retry"): one_of(SUPERUSERS),
    ("procrastinate.procrastinatejob", "cancel"): one_of(SUPERUSERS),
    ("procrastinate.procrastinatejob", "abort"): one_of(SUPERUSERS),
}
"""Model and action of its list → what offers it to who may open the list."""


KINDS: dict[OperationKind, tuple[set[str], set[str]]] = {
    OperationKind.CREATE: ({"add_builderuser"}, {"add_builderuser"}),
    OperationKind.CREATE_INVITED: ({"add_builderuser", "invite"}, {"add_builderuser", "invite"}),
    OperationKind.UPDATE: ({"change_builderuser"}, {"change_builderuser"}),
    OperationKind.DELETE: ({"delete_builderuser"}, {"delete_builderuser", "manage_admins"}),
    OperationKind.PUSH_NAME: ({"change_builderuser"}, {"change_builderuser"}),
    OperationKind.PUSH_EMAIL: (
        {"change_builderuser", "replace_email"},
        {"change_builderuser", "replace_email", "manage_admins"},
    ),
    OperationKind.REPLACE_EMAIL: ({"replace_email"}, {"replace_email", "manage_admins"}),
    OperationKind.SET_PASSWORD: ({"set_password"}, {"set_password", "manage_admins"}),
    OperationKind.BAN: ({"ban"}, {"ban", "manage_admins"}),
    OperationKind.UNBAN: ({"ban"}, {"ban", "manage_admins"}),
    OperationKind.UNLOCK: ({"unlock"}, {"unlock"}),
    OperationKind.RESET_MFA: ({"reset_mfa"}, {"reset_mfa", "manage_admins"}),
    OperationKind.SIGN_OUT: ({"sign_out"}, {"sign_out"}),
    OperationKind.REFRESH: ({"change_builderuser"}, {"change_builderuser"}),
    OperationKind.END_SESSION: ({"sign_out"}, {"sign_out"}),
    OperationKind.CREATE_ACCOUNT: ({"create_account"}, {"create_account", "manage_admins"}),
    OperationKind.LINK: ({"link"}, {"link", "manage_admins"}),
    OperationKind.UNLINK: ({"link"}, {"link", "manage_admins"}),
    OperationKind.INVITE: ({"invite"}, {"invite", "manage_admins"}),
    OperationKind.REVOKE: ({"invite"}, {"invite", "manage_admins"}),
    OperationKind.FOLLOW: ({"change_builderuser"}, {"change_builderuser"}),
    OperationKind.MERGE_METADATA: (
        {"change_builderuser", "change_role"},
        {"change_builderuser", "change_role", "manage_admins"},
    ),
}  # fmt: skip
"""Kind of change → what it needs of a builder, and of an administrator; an edit of the name."""

EDITS_OF_AN_ADMIN = {
    "name": {"change_builderuser"},
    "builder_group": {"change_builderuser"},
    "email": {"change_builderuser", "manage_admins"},
    "role": {"change_builderuser", "change_role", "manage_admins"},
    "internal_role": {"change_builderuser", "change_role", "manage_admins"},
}


# --- Who asks ------------------------------------------------------------------------------------

OFFERED = groups.OFFERED
BESIDE_LOOKING = [name for name in OFFERED if name.startswith("users.") and "_builder" not in name]
"""Permissions that count on a user's page, where looking is needed too."""


PERSONAS: dict[str, set[str]] = {
    **{f"only {name}": {name} for name in OFFERED},
    **{f"looking and {name}": {"users.view_builderuser", name} for name in BESIDE_LOOKING},
    "staff administration": set(groups.STAFF),
    "what is offered to nobody": {
        "auth.change_user", "auth.delete_user", "procrastinate.view_procrastinatejob",
    },
    "no permission": set(),
}  # fmt: skip


SWEEPING = ["staff administration", "what is offered to nobody", "no permission"]
"""Those who ask for every URL, beside the groups. Each permission is tried at each URL below."""


@pytest.fixture
def single(db) -> Iterator[tuple[str, User]]:
    """One staff member after the other, each with one permission, or the same and looking."""
    return ((name, staff_who_may(*held)) for name, held in PERSONAS.items())


@pytest.fixture
def grouped(db) -> Iterator[tuple[str, User]]:
    return ((name, staff_in(name)) for name in groups.GROUPS)


@pytest.fixture(autouse=True)
def api(front_end: Any) -> None:
    """The addresses of the front end are open, to who has a token."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of refusals, each with its traceback, take longer to log than to make."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def allows(rule: Rule, held: set[str]) -> bool:
    return any(alternative <= held for alternative in rule)


# --- What is asked -------------------------------------------------------------------------------


def denied(response: Any) -> bool:
    to_login = response.status_code == 302 and "/admin/login/?" in response.url
    return response.status_code == 403 or to_login


# --- The matrix ----------------------------------------------------------------------------------


def test_every_url_is_in_the_table():
    known, found = set(URLS), {key for key, _ in patterns()}
    assert found - known == set(), "Decide who may use these URLs, and add them to URLS."
    assert known - found == set(), "These URLs do not exist any more."


class Asking:
    """One browser and one world for many requests; each is undone before the next."""

    def __init__(self, sandbox: Any, staff: User) -> None:
        self.sandbox, self.staff = sandbox, staff
        self._browser = browser_of(staff)
        self._session = self._browser.cookies["sessionid"].value
        self._before = transaction.savepoint()
        self.world = World(sandbox)

    def answer(self, method: str, pattern: str, held: Iterable[str] = ()) -> Any:
        """Send a request. What it did, and the permissions `held` for it, are taken back."""
        if self.sandbox.writes():  # what was done in Clerk must not decide the next answers
            transaction.savepoint_rollback(self._before)
            self.world = World(self.sandbox)
        undone = transaction.savepoint()
        give(self.staff, held)
        response = getattr(self._browser, method)(self.world.address(pattern))
        connection.check_constraints()  # as a commit does
        transaction.savepoint_rollback(undone)
        self._browser.cookies["sessionid"] = self._session  # whoever signed out is here again
        return response


def wrong_answers(staff: User, held: set[str], sandbox: Any) -> list[str]:
    """Ask for every URL by GET and POST; list what was not answered as the table says."""
    asking, wrong = Asking(sandbox, staff), []
    for key, pattern in patterns():
        for method, rule in zip(("get", "post"), URLS[key], strict=True):
            response = asking.answer(method, pattern)
            if rule is OTHER_METHOD:
                right = response.status_code == 405 or denied(response)
            else:
                right = denied(response) is not allows(rule, held)
            if not right or response.status_code >= 500:
                wrong.append(f"{method} {key}: {response.status_code}")
    return wrong


def assert_answers_as_the_table(staff: User, sandbox: Any) -> None:
    held = {*staff.get_all_permissions(), "anonymous"}
    assert wrong_answers(staff, held, sandbox) == []


@pytest.mark.parametrize("persona", SWEEPING)
def test_each_url_answers_only_who_holds_its_permission(sandbox, db, persona):
    assert_answers_as_the_table(staff_who_may(*PERSONAS[persona]), sandbox)


def needed_of(rule: Rule) -> list[set[str]]:
    """List the smallest sets with a permission of each alternative: without one, none is left."""
    ways = {frozenset(way) for way in product(*rule)}
    return [set(way) for way in ways if not any(other < way for other in ways)]


BY_PERMISSION = {
    key: rules
    for key, rules in URLS.items()
    if not all(rule in (OTHER_METHOD, STAFF, EVERYBODY) for rule in rules)
}


@pytest.mark.parametrize("key", BY_PERMISSION)
def test_a_url_opens_to_its_permissions_and_to_no_others(sandbox, db, key):
    """Each alternative suffices alone. All other permissions together do not."""
    asking, pattern = Asking(sandbox, staff_who_may()), dict(patterns())[key]
    everything = groups.named(Permission.objects.all())
    for method, rule in zip(("get", "post"), URLS[key], strict=True):
        if rule in (OTHER_METHOD, STAFF, EVERYBODY):
            continue
        enough = [alternative for alternative in rule if SUPERUSERS not in alternative]
        too_little = [everything - needed for needed in needed_of(rule)]
        for held, opens in [*((o, False) for o in too_little), *((o, True) for o in enough)]:
            response = asking.answer(method, pattern, held)
            asked = (method, sorted(held), response.status_code)
            assert denied(response) is not opens, asked
            assert response.status_code < 500, asked


@pytest.mark.parametrize("page", ["admin/", "admin/users/", "admin/auth/"])
def test_the_index_opens_whatever_a_staff_member_holds(sandbox, db, page):
    asking = Asking(sandbox, staff_who_may())
    for name, held in PERSONAS.items():
        response = asking.answer("get", page, held)
        assert response.status_code in (200, 404), name  # 404: an application with nothing to see


@pytest.mark.parametrize("group", groups.GROUPS)
def test_each_url_answers_only_the_groups_that_may(sandbox, db, group):
    assert_answers_as_the_table(staff_in(group), sandbox)


def test_a_stranger_is_sent_to_the_login(sandbox, db):
    strangers = {key for key, rules in URLS.items() if EVERYBODY in rules}
    world = World(sandbox)
    for key, pattern in patterns():
        for method in ("get", "post"):
            response = getattr(Client(), method)(world.address(pattern))
            if key not in strangers:
                assert denied(response) or response.status_code == 405, (method, key)
    assert sandbox.requests() == []


OF_MACHINES = {"clerk_webhook", "update_clerk_user", "update_user", "sync_user"}
"""Their senders are proven by a signature or a token, and by no cookie."""


def test_no_url_acts_for_a_link_or_form_of_another_site(sandbox, staff):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(staff)
    world, acting = World(sandbox), set()
    sandbox.clear_requests()
    for key, pattern in patterns():
        address = world.address(pattern)
        assert browser.get(address).status_code < 500, key
        if key not in OF_MACHINES and not pattern.startswith("api/"):
            acting |= {key} if browser.post(address).status_code != 403 else set()
    assert acting == set()
    assert sandbox.writes() == []


def test_a_superuser_edits_no_record_either(client, sandbox, staff):
    """What nobody may do is closed to superusers too."""
    everything = {*staff.get_all_permissions(), SUPERUSERS, "anonymous"}
    assert wrong_answers(staff, everything, sandbox) == []


def offered_actions(staff: User) -> set[tuple[str, str]]:
    request = RequestFactory().get("/")
    request.user = staff
    return {
        (model._meta.label_lower, action)
        for model, page in admin.site._registry.items()
        if page.has_view_permission(request)
        for action in page.get_actions(request)
    }


def test_each_list_offers_its_actions_only_to_who_may(single, grouped):
    for name, one in chain(single, grouped):
        held = one.get_all_permissions()
        assert offered_actions(one) == {
            (label, action)
            for (label, action), needed in ACTIONS.items()
            if allows(needed, held)
            and allows(URLS[f"{label.replace('.', '_')}_changelist"][0], held)
        }, name


def test_every_action_is_in_the_table(staff):
    assert offered_actions(staff) == set(ACTIONS)


def test_no_job_takes_a_name_or_an_address():
    """What a job takes stands in its table and on its page: decide, then add it here."""
    ours = [task.func for task in app.tasks.values() if task.func.__module__.endswith(".tasks")]
    taken = {name for function in ours for name in inspect.signature(function).parameters}
    assert taken == {"timestamp", "event_id", "host", "secure"}


def lacking(staff: User, kind: OperationKind, user: BuilderUser, **wanted: Any) -> set[str]:
    return set(permissions.missing(staff, kind, user, wanted=wanted))


def test_every_kind_of_change_is_in_the_table():
    assert set(KINDS) == set(OperationKind) == set(permissions.NEEDED)


def test_each_kind_of_change_needs_its_permissions(db):
    nobody = staff_who_may()
    for kind, needs in KINDS.items():
        for role, needed in zip(("BUILDER", "ADMIN"), needs, strict=True):
            user = BuilderUser(role=role)
            assert lacking(nobody, kind, user, name="New") == needed, kind
            holder = staff_who_may(*(f"users.{name}" for name in needed))
            assert lacking(holder, kind, user, name="New") == set(), kind


def test_an_edit_of_an_administrator_needs_permissions_by_its_field(db):
    nobody, user = staff_who_may(), BuilderUser(role="ADMIN")
    for name, needed in EDITS_OF_AN_ADMIN.items():
        assert lacking(nobody, OperationKind.UPDATE, user, **{name: "x"}) == needed
