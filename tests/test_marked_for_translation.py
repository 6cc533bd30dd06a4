"""Every word that people see is marked for translation.

The templates are read as they are; the pages are shown in a language that puts what is marked in
brackets (`tests.support.pseudo_language`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from django.conf import settings
from django.template.base import Lexer, TokenType
from django.test import Client
from django.utils import timezone, translation

from tests.support.addresses import World, patterns
from tests.support.change_form import form_of, page_of, stored, submit
from tests.support.factories import (
    BuilderUserFactory,
    SyncAttemptFactory,
    change_here,
    linked,
)
from tests.support.pseudo_language import pseudo_language, unmarked

pytestmark = pytest.mark.django_db(transaction=True)

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.*"))
LETTERS = re.compile(r"[^\W\d_]{2,}")
ARGUMENT = re.compile(r"""[:=]["'][^"']*[A-Z][a-z]+[^"']*["']""")
"""A text as the argument of a filter or tag. Classes, fields and formats have no capitals."""
ATTRIBUTES = re.compile(r"{% block (coltype|bodyclass|form_attributes) %}.*?{% endblock %}")
"""Blocks that stand inside of a tag: classes, and what a script reads."""
SAID = {"alt", "aria-label", "placeholder", "title", "data-label", "data-busy", "data-slow"}


class Said(HTMLParser):
    """The texts of a template outside of its tags: they are the same in every language."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._code = 0

    def handle_starttag(self, tag, attrs):
        self._code += tag in ("script", "style", "code")
        named = dict(attrs)
        said = [value for name, value in attrs if name in SAID]
        if tag == "input" and named.get("type") == "submit":
            said.append(named.get("value"))
        self.texts += filter(None, said)

    def handle_endtag(self, tag):
        self._code -= tag in ("script", "style", "code")

    def handle_data(self, data):
        if not self._code:
            self.texts.append(data)


def words_of(template):
    """Yield what a template says in one language alone."""
    html, translated = "", False
    template_text = ATTRIBUTES.sub("", template.read_text())
    for token in Lexer(template_text).tokenize():
        if token.token_type == TokenType.BLOCK and "blocktranslate" in token.contents.split()[0]:
            translated = token.contents.startswith("blocktranslate")
        elif token.token_type == TokenType.TEXT and not translated:
            html += token.contents
        elif token.token_type in (TokenType.BLOCK, TokenType.VAR):
            html += "·" if token.token_type == TokenType.VAR else ""
            if not token.contents.startswith("translate "):
                yield from ARGUMENT.findall(token.contents)
    said = Said()
    said.feed(html)
    yield from (text.strip() for text in said.texts if LETTERS.search(text))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_word_of_a_template_is_marked(template):
    names = {"Cascade", "· Cascade", "UTC"}
    assert [words for words in words_of(template) if words not in names] == []


def test_a_browser_in_another_language_gets_the_same_page(client):
    other = Client(headers={"accept-language": "pl, de;q=0.8"})
    assert 'lang="en-us"' in other.get("/admin/login/").content.decode()
    assert translation.get_language() == "en-us"


DATA = re.compile(
    r"\S+@\S+|https?://\S+|(?:user|msg)_\w+(?:-\w+)*|[0-9a-f]{8}-[0-9a-f-]{27}"
    r"|\d{4}-\d\d-\d\d [\d:]+ UTC|\bUTC\b"
    r"|Mary Ann( Smith)?|Smith|Bob|Oak Hill Homes|Sam\b|\bstaff\d*|[Nn]obody|Staff\b"
    r"|Cascade|clerk_push|user\.updated|BUILDER|HOMEOWNER|alt=|True|False"
)
"""What the database holds, names, ids and times. `True` and `False` are of Django's pictures."""
OF_OTHERS = (
    "/admin/procrastinate/",  # has no translations
    "/admin/auth/",  # of Django; the names of permissions and groups are stored
    "/password/",  # Django evaluates one of its texts at import
)


class Pages:
    """Collects the words that pages say without a mark."""

    def __init__(self):
        self.seen, self.found = 0, []

    def look_at(self, page, place):
        self.seen += 1
        self.found += [f"{place}: {words}" for words in unmarked(page.content.decode(), data=DATA)]

    def assert_marked(self):
        assert self.seen
        if self.found:
            pytest.fail("\n".join(self.found), pytrace=False)


def test_every_word_of_a_page_is_marked(client, sandbox):
    world = World(sandbox)
    addresses = {
        world.address(pattern) for _, pattern in patterns() if pattern.startswith("admin/")
    }
    pages = Pages()
    with pseudo_language():
        for address in sorted(addresses):
            if not address.startswith(OF_OTHERS[:2]) and OF_OTHERS[2] not in address:
                page = client.get(address)
                if page.status_code == 200 and page.headers["Content-Type"].startswith("text/html"):
                    pages.look_at(page, address)
    pages.assert_marked()


def test_every_word_about_a_change_is_marked(client, staff, sandbox):
    user = linked(sandbox)
    other = BuilderUserFactory(email="other@example.com")
    pending = {"user": user, "actor": staff, "changes": {"name": [user.name, "Bob"]}}
    pages = Pages()
    later = timezone.now() + timedelta(hours=1)
    with pseudo_language():
        pages.look_at(submit(client, user, name="<", email="no address"), "refused here")
        pages.look_at(submit(client, user, email=other.email), "a guarded email")
        page = submit(client, user, name="Mary Ann")
        pages.look_at(client.get(page["Location"]), "saved")
        sandbox.fault("PATCH /users/{user_id}", "status", status=402, code="x", message="Bob.")
        pages.look_at(submit(client, stored(user), name="Bob"), "refused by Clerk")
        opened = form_of(stored(user), role="HOMEOWNER")
        change_here(user, role="ADMIN")
        pages.look_at(client.post(page_of(user), opened), "a conflict")
        change_here(user, name="Bob", email="bob@example.com")
        SyncAttemptFactory(**pending, late_until=later, message="")
        SyncAttemptFactory(**pending, status="dropped", unseen=True, settled_at=later, message="")
        pages.look_at(client.get(page_of(user)), "pending, and different")
        pages.look_at(client.get("/admin/"), "told later")
    pages.assert_marked()
