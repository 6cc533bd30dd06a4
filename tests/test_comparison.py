"""One rule says whether the two copies differ, in Python and in SQL, on every page and command."""

from __future__ import annotations

import json
import re
import sys
import unicodedata

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef, TextField
from django.db.models.expressions import RawSQL
from django.db.models.sql import Query
from django.urls import reverse
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.change_form import form_of, page_of, said, stored, text_of
from tests.support.commands import run
from tests.support.events import arrive, happened, post
from tests.support.factories import BuilderUserFactory, change_here, linked
from users.clerk import names
from users.models import BuilderUser, ClerkAccount, Invitation, InvitationStatus, SyncAttempt
from users.sync import maintenance
from users.sync.mirror import comparison

pytestmark = pytest.mark.django_db(transaction=True)

KELVIN, DOTLESS, DOTTED, LONG_S = "\u212a", "\u0131", "\u0130", "\u017f"
NBSP, EM_SPACE, IDEOGRAPHIC, ZERO_WIDTH = "\xa0", "\u2003", "\u3000", "\u200b"


# --- Python and SQL say the same ----------------------------------------------------------------

OURS, CLERKS = (RawSQL(column, [], output_field=TextField()) for column in ("ours", "clerks"))

IN_PYTHON = {
    comparison.NormalizedName(OURS): lambda ours, clerks: comparison.normalized_name(ours),
    comparison.NormalizedEmail(OURS): lambda ours, clerks: comparison.normalized_email(ours),
    comparison.where_name_differs(OURS, CLERKS): comparison.name_differs,
    comparison.where_email_differs(OURS, CLERKS): comparison.email_differs,
}


def in_sql(pairs) -> list[tuple]:
    """What each expression of `IN_PYTHON` says of each pair, in one statement."""
    query = Query(BuilderUser)
    compiler = query.get_compiler(connection=connection)
    columns, params = [], []
    for expression in IN_PYTHON:
        sql, values = compiler.compile(expression.resolve_expression(query))
        columns.append(f"({sql})")
        params += values
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(columns)} FROM unnest(%s::text[], %s::text[])"
            " WITH ORDINALITY AS pair (ours, clerks, position) ORDER BY position",
            [*params, [ours for ours, _ in pairs], [clerks for _, clerks in pairs]],
        )
        return cursor.fetchall()


def assert_they_agree(pairs) -> None:
    python = [tuple(function(*pair) for function in IN_PYTHON.values()) for pair in pairs]
    for pair, said_by_python, said_by_sql in zip(pairs, python, in_sql(pairs), strict=True):
        assert said_by_python == said_by_sql, pair


# The database may know a later Unicode than Python, so characters unknown to Python are left out.
characters = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0")
LOOKALIKES = f"{KELVIN}Kk{DOTLESS}{DOTTED}Ii{LONG_S}SsßẞΣσςÉé\u212bÅå\u2126Ωω"
MARKS = "e\u0301\u0323\u0307\u0345\u1100\u1161\uac00"
traps = st.sampled_from(f"{names.WHITE_SPACE}{ZERO_WIDTH}\ufeff{LOOKALIKES}{MARKS}%_\\'")
texts = st.text(st.one_of(characters, traps, traps), max_size=12)
WAYS = [
    lambda text: text,
    lambda text: unicodedata.normalize("NFD", text),
    lambda text: unicodedata.normalize("NFC", text),
    lambda text: unicodedata.normalize("NFKC", text),
    str.lower,
    str.upper,
    lambda text: f"{NBSP}{text}  ",
    lambda text: text.replace(" ", EM_SPACE),
]


@st.composite
def _written_otherwise(draw):
    text = draw(texts)
    return text, draw(st.sampled_from(WAYS))(text).replace("\0", "")


pairs = st.one_of(
    _written_otherwise(), st.tuples(st.one_of(st.none(), texts), st.one_of(st.none(), texts))
)


@settings(max_examples=100)
@given(st.lists(pairs, min_size=20, max_size=60))
def test_python_and_sql_agree_on_any_text(many):
    assert_they_agree(many)


def test_python_and_sql_agree_on_every_character_that_has_a_name():
    known = [
        character
        for character in map(chr, range(1, sys.maxunicode + 1))
        if unicodedata.category(character) not in ("Cs", "Cn", "Co")
    ]
    for start in range(0, len(known), 50_000):
        assert_they_agree(
            [(f"A{character}e", f"A e{character}") for character in known[start : start + 50_000]]
        )


def test_white_space_is_what_python_splits_at():
    splits = [char for char in map(chr, range(sys.maxunicode + 1)) if len(f"a{char}b".split()) > 1]
    assert list(names.WHITE_SPACE) == splits


@given(texts)
def test_normalizing_twice_changes_nothing_more(text):
    for normalized in (comparison.normalized_name, comparison.normalized_email):
        assert normalized(normalized(text)) == normalized(text)


@pytest.mark.parametrize("nothing", [None, "", " ", f"{NBSP}{EM_SPACE}"])
def test_what_clerk_does_not_have_is_no_difference(nothing):
    for differs in (comparison.name_differs, comparison.email_differs):
        assert not differs("Mary", nothing)
        assert not differs(None, nothing)
        assert differs(nothing, "Mary")
    assert comparison.same_name(nothing, None)
    assert comparison.same_email(nothing, "")
    assert_they_agree([("Mary", nothing), (nothing, "Mary"), (nothing, nothing), (None, nothing)])


# --- Two mailboxes are never one -----------------------------------------------------------------


MAILBOXES = [
    "kim@example.com",
    "KIM@EXAMPLE.COM",
    f"{KELVIN}im@example.com",
    f"k{DOTLESS}m@example.com",
    f"k{DOTTED}m@example.com",
    f"k{DOTTED.lower()}m@example.com",
    "k%@example.com",
    "k_m@example.com",
    "kim@example.com.evil.org",
    "rené@example.com",
    "rene\u0301@example.com",
    "RENÉ@example.com",
    "sam@example.com",
    f"{LONG_S}am@example.com",
    "",
]


@pytest.mark.parametrize("wanted", MAILBOXES)
def test_a_row_is_found_by_its_own_address_alone(wanted):
    row, users = BuilderUserFactory(), BuilderUser.objects.all()
    ClerkAccount.objects.create(clerk_id="user_1", email=wanted, seen_at=timezone.now())
    its_row = Exists(comparison.with_email_of(users, OuterRef("email")))
    for held in MAILBOXES:
        change_here(row, email=held)
        same = held != "" and comparison.same_email(held, wanted)
        assert comparison.with_email(users, wanted).exists() == same, held
        assert ClerkAccount.objects.filter(its_row).exists() == same, held


def test_many_addresses_are_found_at_once():
    ann, bob = BuilderUserFactory(email="Ann@example.com"), BuilderUserFactory(email="bob@x.org")
    BuilderUserFactory(email="other@example.com")
    found = comparison.with_email(BuilderUser.objects.all(), " ann@example.com", "BOB@x.org", "")
    assert set(found) == {ann, bob}
    assert not comparison.with_email(BuilderUser.objects.all()).exists()


@pytest.mark.parametrize("wanted", [address for address in MAILBOXES if address])
def test_an_address_is_taken_if_the_unique_index_refuses_it(wanted):
    other, row = BuilderUserFactory(), BuilderUserFactory(email="row@example.com")
    for held in MAILBOXES:
        change_here(other, email=held)
        refused = False
        try:
            with transaction.atomic():
                change_here(row, email=wanted)
                transaction.set_rollback(True)
        except IntegrityError:
            refused = True
        assert (comparison.taken_by_another(row, wanted) == other) == refused, held


@pytest.mark.parametrize("local", [f"{KELVIN}im", f"k{DOTLESS}m", f"{LONG_S}am", f"k{DOTTED}m"])
def test_a_typed_letter_that_looks_like_ascii_does_not_become_it(client, sandbox, local):
    form = {"name": "Kim", "email": f"{local}@example.com", "role": "BUILDER", "account": "create"}
    page = text_of(client.post(reverse("admin:users_builderuser_add"), form))
    assert "Enter a valid email address." in page
    assert not BuilderUser.objects.exists()
    assert sandbox.users() == []


# --- Five views, one answer ----------------------------------------------------------------------


def views(client, user) -> dict[str, set[str]]:
    """The fields of the user that differ, by each view that says so."""
    [row] = client.get("/admin/users/builderuser/", {"q": str(user.pk)}).context["cl"].result_list
    page = text_of(client.get(page_of(user)))
    in_panel = re.findall(r'<tr class="differs">\s*<th scope="row">(\w+)</th>', page)
    diff = json.loads(run("clerk_diff", "--json")[1])["differences"]
    plans = {
        command: json.loads(
            run(command, "--no-refresh", "--json", "--field", "name", "--field", "email")[1]
        )["plan"]["rows"]
        for command in ("clerk_push", "clerk_pull")
    }
    return {
        "list": {"in_step": set(), "differs": {"any"}}[row.entry.state],
        "panel": {field.lower() for field in in_panel},
        "clerk_diff": {one["kind"] for one in diff},
        **{
            command: {field for row in rows for field in row["changes"]}
            for command, rows in plans.items()
        },
    }


def hold(user, *, name="", first_name="", last_name="", email="", clerks_email="") -> None:
    """Put values into both copies, behind everybody's back."""
    change_here(user, name=name, email=email)
    ClerkAccount.objects.filter(user=user).update(
        first_name=first_name, last_name=last_name, email=clerks_email
    )


NAMES = [
    ("Mary Ann Smith", "Mary Ann", "Smith", False),
    ("  Mary  Ann\tSmith ", "Mary Ann", "Smith", False),
    ("Mary Ann Smith", f"Mary{NBSP}Ann", "Smith", False),
    ("Mary Ann Smith", f"Mary{EM_SPACE}Ann{IDEOGRAPHIC}", f"{NBSP}Smith\x1f", False),
    ("Jose\u0301 Smith", "José", "Smith", False),
    ("Jose Smith", "José", "Smith", True),
    ("Smith", "", "Smith", False),
    ("Mary Ann Smith", "", "", False),
    ("Mary Ann Smith", NBSP, EM_SPACE, False),
    ("mary ann smith", "Mary Ann", "Smith", True),
    (f"Mary{ZERO_WIDTH}Ann Smith", "MaryAnn", "Smith", True),
    ("Mary Ann Smith", "MaryAnn", "Smith", True),
    (f"{KELVIN}im", "Kim", "", False),  # the Kelvin sign is a K to Unicode itself
    (f"k{DOTLESS}m", "kim", "", True),
]
EMAILS = [
    ("mary@example.com", "mary@example.com", False),
    ("Mary@Example.com", "mary@example.com", False),
    (" mary@example.com\t", "mary@example.com", False),
    ("mary@example.com", "", False),
    ("mary@example.com", "mary2@example.com", True),
    ("kim@example.com", f"{KELVIN}im@example.com", True),
    (f"{KELVIN}im@example.com", "kim@example.com", True),
    ("kim@example.com", f"k{DOTLESS}m@example.com", True),
    ("rené@example.com", "rene\u0301@example.com", True),
    ("RENÉ@example.com", "rené@example.com", True),
]


@pytest.mark.parametrize(("ours", "first", "last", "differs"), NAMES)
def test_five_views_give_one_answer_about_a_name(client, sandbox, ours, first, last, differs):
    user = linked(sandbox, email="mary@example.com")
    values = {"email": user.email, "clerks_email": user.email}
    hold(user, name=ours, first_name=first, last_name=last, **values)
    expected = {"name"} if differs else set()
    assert views(client, user) == {
        "list": {"any"} if differs else set(),
        "panel": expected,
        "clerk_diff": expected,
        "clerk_push": expected,
        "clerk_pull": expected,
    }
    assert sandbox.requests() == []


@pytest.mark.parametrize(("ours", "clerks", "differs"), EMAILS)
def test_five_views_give_one_answer_about_an_email(client, sandbox, ours, clerks, differs):
    user = linked(sandbox)
    hold(user, name="Smith", last_name="Smith", email=ours, clerks_email=clerks)
    expected = {"email"} if differs else set()
    assert views(client, user) == {
        "list": {"any"} if differs else set(),
        "panel": expected,
        "clerk_diff": expected,
        "clerk_push": expected,
        "clerk_pull": expected,
    }
    assert sandbox.requests() == []


IN_STEP = {view: set() for view in ("list", "panel", "clerk_diff", "clerk_push", "clerk_pull")}


def test_a_name_with_other_spaces_in_clerk_leaves_nothing_to_do(client, sandbox):
    user = linked(sandbox, name="Mary Ann Smith")
    sandbox.edit(user.clerk_id, first_name=f"Mary{NBSP}Ann")
    arrive(sandbox)
    assert stored(user).name == "Mary Ann Smith"
    assert views(client, user) == IN_STEP
    for command in ("clerk_push", "clerk_pull"):
        assert run(command, "--no-refresh", "--apply") == (0, "Nothing to do.\n")
    client.post(reverse("admin:users_builderuser_pull", args=[user.pk, "name"]))
    assert stored(user).name == "Mary Ann Smith"
    assert sandbox.user(user.clerk_id)["first_name"] == f"Mary{NBSP}Ann"
    assert sandbox.writes() == []
    assert not SyncAttempt.objects.exists()


# --- What is written arrives ---------------------------------------------------------------------


@pytest.mark.parametrize("way", ["panel", "clerk_push"])
def test_an_email_with_capitals_arrives_although_the_answer_is_lost(client, sandbox, way):
    user = linked(sandbox, email="mary@old.example.com")
    change_here(user, email="Mary@New.example.com")
    sandbox.fault("PUT /users/{user_id}/email_address", "close", apply=True)
    if way == "panel":
        push = reverse("admin:users_builderuser_push", args=[user.pk, "email"])
        response = client.post(push)
        assert said(response) == [
            "Mary Ann Smith signs in with Mary@New.example.com from now on; mary@old.example.com "
            "no longer works."
        ]
    else:
        code, out = run(way, "--no-refresh", "--apply", "--field", "email")
        assert code == 0, out
    assert SyncAttempt.objects.get().status == "applied"
    assert stored(user).email == "Mary@New.example.com"
    assert [found["id"] for found in sandbox.find("mary@new.example.com")] == [user.clerk_id]
    assert sandbox.find("mary@old.example.com") == []
    assert views(client, user) == IN_STEP


def test_a_row_with_capitals_is_not_renamed_by_an_event(client, sandbox):
    user = linked(sandbox, email="mary@example.com", name="Mary Smith")
    change_here(user, email="Mary@Example.com", name="Mary  Smith")
    sandbox.edit(user.clerk_id, first_name="Mary")
    arrive(sandbox)
    assert (stored(user).email, stored(user).name) == ("Mary@Example.com", "Mary  Smith")
    assert views(client, user) == IN_STEP


def test_replacing_an_email_by_itself_in_capitals_is_refused(client, sandbox):
    user = linked(sandbox, email="mary@example.com")
    change_here(user, email="Mary@Example.com")
    page = reverse("admin:users_builderuser_email", args=[user.pk])
    response = client.post(page, {"email": "mary@example.com", "how": "replace"})
    assert "This is the email that the user has." in text_of(response)
    assert stored(user).email == "Mary@Example.com"
    assert sandbox.writes() == []


@pytest.fixture
def composing(sandbox, monkeypatch):
    """A Clerk that stores names in Unicode's composed form."""
    touch = sandbox.state.touch

    def composed(user):
        for field in ("first_name", "last_name"):
            user[field] = unicodedata.normalize("NFC", user[field] or "")
        touch(user)

    monkeypatch.setattr(sandbox.state, "touch", composed)
    return sandbox


@pytest.mark.parametrize("fault", [None, "close"])
def test_a_decomposed_name_that_clerk_composes_is_saved(client, composing, fault):
    user = linked(composing, name="Mary Smith")
    typed = "Jose\u0301 Smith"
    if fault:
        composing.fault("PATCH /users/{user_id}", fault, apply=True)
    response = client.post(page_of(user), form_of(user, name=typed))
    assert response.status_code == 302, text_of(response)
    assert SyncAttempt.objects.get().status == "applied"
    assert comparison.same_name(stored(user).name, typed)
    assert composing.user(user.clerk_id)["first_name"] == "José"
    assert views(client, user) == IN_STEP
    arrive(composing)
    assert SyncAttempt.objects.count() == 1
    assert views(client, user) == IN_STEP


def test_a_first_name_of_two_words_is_kept_in_either_composition(client, sandbox):
    user = linked(sandbox, name="José Ann Smith", first_name="José Ann", last_name="Smith")
    client.post(page_of(user), form_of(user, name="Jose\u0301 Ann Jones"))
    account = sandbox.user(user.clerk_id)
    assert comparison.same_name(account["first_name"], "José Ann")
    assert account["last_name"] == "Jones"


def test_an_address_with_capitals_that_a_row_left_goes_to_the_account_that_waits(sandbox):
    leaving, waiting = linked(sandbox, email="ann@example.com"), linked(sandbox, email="b@x.org")
    change_here(leaving, email="Ann@Example.com")
    happened(sandbox)
    sandbox.edit(leaving.clerk_id, email="new@example.com")
    sandbox.edit(waiting.clerk_id, email="ann@example.com")
    for event in reversed(happened(sandbox)):
        assert post(sandbox, event).status_code == 200
    assert stored(leaving).email == "new@example.com"
    assert stored(waiting).email == "ann@example.com"


def test_an_account_without_a_name_gets_the_name_of_a_row_with_double_spaces(sandbox):
    user = linked(sandbox, name="Mary  Smith", first_name="", last_name="")
    Invitation.objects.create(
        user=user, email=user.email, purpose="new_account", status=InvitationStatus.ACCEPTED
    )
    assert maintenance.name_the_nameless() == ["Mary  Smith: Clerk has the name."]
    account = sandbox.user(user.clerk_id)
    assert (account["first_name"], account["last_name"]) == ("Mary", "Smith")
    assert SyncAttempt.objects.get().status == "applied"
    assert maintenance.name_the_nameless() == []


def test_twins_are_accounts_with_one_address_and_not_with_one_that_looks_alike(sandbox):
    emails = ["kim@example.com", "KIM@example.com", f"{KELVIN}im@example.com", "", ""]
    for number, email in enumerate(emails):
        ClerkAccount.objects.create(clerk_id=f"user_{number}", email=email, seen_at=timezone.now())
    found = json.loads(run("clerk_diff", "--kind", "twins", "--json")[1])["differences"]
    assert {one["clerk_id"] for one in found} == {"user_0", "user_1"}
