"""The pages are true: what they link to, name and list exists."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import clerk_backend_api
import pytest
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandParser
from django.db.models import TextChoices

from users.management.bulk import BulkCommand
from users.models import DeliveryStatus, InvitationStatus, Status
from users.sync.mirror.report import Kind
from users.sync.mirror.status import UserStatus

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
)
OUR_APPS = ("users", "staff")
FOLDERS = "users|cascade|staff|demo|deploy|sandbox|tests|bench|docs|templates"

FENCE = re.compile(r"^ *```.*?^ *```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
COMMAND = re.compile(r"manage\.py ([a-z_]+)([^#&|`\n]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
FILE = re.compile(rf"(?:(?:{FOLDERS})/[\w./-]+|[\w.-]+\.(?:toml|example))\Z")
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")


def named(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


each_page = pytest.mark.parametrize("page", PAGES, ids=named(PAGES))


def without_fences(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """Return what stands between backticks in the text."""
    return SPAN.findall(without_fences(page))


# --- Links ---------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the anchors that hosts make of the headings of a page."""
    headings = HEADING.findall(without_fences(page))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_each_link_leads_somewhere(page):
    broken = []
    for link in LINK.findall(without_fences(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_the_index_names_each_page():
    linked = LINK.findall((ROOT / "docs" / "README.md").read_text())
    pages = {page.name for page in ROOT.glob("docs/*") if page.is_file()}
    assert pages - {"README.md"} == {link for link in linked if "/" not in link}


# --- Files ---------------------------------------------------------------------------------------


@each_page
def test_each_file_that_is_named_exists(page):
    files = [span for span in spans(page) if FILE.match(span)]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_each_file_of_the_sdk_that_is_a_source_exists():
    sdk = Path(clerk_backend_api.__file__).parent
    files = re.findall(r"SDK: `([^`]+)`", (ROOT / "docs" / "clerk.md").read_text())
    assert files
    assert [file for file in files if not (sdk / file).exists()] == []


# --- Commands ------------------------------------------------------------------------------------


@cache
def parser_of(command: str) -> CommandParser:
    app = get_commands()[command]
    assert isinstance(app, str)
    return load_command_class(app, command).create_parser("manage.py", command)


def our_commands() -> list[str]:
    return [name for name, app in get_commands().items() if app in OUR_APPS]


def command_lines(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the commands that a page names, each with what stands behind it."""
    yield from COMMAND.findall(page.read_text())
    for span in spans(page):
        command, _, rest = span.partition(" ")
        if command in our_commands():
            yield command, rest


@each_page
def test_each_command_and_its_options_exist(page):
    wrong = [
        f"{command} {rest}"
        for command, rest in command_lines(page)
        if command not in get_commands()
        or not set(OPTION.findall(rest)) <= set(parser_of(command)._option_string_actions)
    ]
    assert not wrong


@each_page
def test_each_option_is_one_of_a_command(page):
    known = {
        option for command in our_commands() for option in parser_of(command)._option_string_actions
    }
    lonely = [
        option for span in spans(page) if span.startswith("--") for option in [span.split()[0]]
    ]
    assert [option for option in lonely if option not in known] == []


def test_the_page_of_bulk_fixes_names_each_bulk_command():
    named = set(spans(ROOT / "docs" / "bulk.md"))
    for command in our_commands():
        app = get_commands()[command]
        assert isinstance(app, str)
        if isinstance(load_command_class(app, command), BulkCommand):
            assert any(span.split()[0] == command for span in named), command


# --- Settings ------------------------------------------------------------------------------------


def settings_variables() -> set[str]:
    """Return the variables that the settings read."""
    tree = ast.parse((ROOT / "cascade" / "settings.py").read_text())
    found = set()
    for call in ast.walk(tree):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name("env")) | ast.Name("secret" | "secret_text"),
                args=[ast.Constant(str(name)), *_],
            ):
                found.add(name)
            case ast.Call(func=ast.Name("_read"), args=[_, ast.Constant(str(name)), *_]):
                found.add(name)
    return found


def secrets() -> set[str]:
    """Return the variables that can be in a file instead."""
    text = (ROOT / "cascade" / "settings.py").read_text()
    return set(re.findall(r'secret(?:_text)?\(\s*"([A-Z_]+)"', text))


def gunicorn_variables() -> set[str]:
    return set(
        re.findall(r'environ(?:\.get\(|\[)"([A-Z_]+)"', (ROOT / "gunicorn.conf.py").read_text())
    )


def make_variables() -> set[str]:
    return set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))


def constants() -> set[str]:
    """Return the names of the code's own constants, which a page may send its reader to."""
    code = "\n".join(file.read_text() for file in (ROOT / "users").rglob("*.py"))
    return set(re.findall(r"^([A-Z_]+)\b[^=\n]* = ", code, re.MULTILINE))


@each_page
def test_each_variable_that_is_named_is_read(page):
    texts = [span for span in spans(page) if "manage.py" not in span]
    found = {variable for text in texts for variable in VARIABLE.findall(text)}
    files = {variable for variable in found if variable.removesuffix("_FILE") in secrets()}
    known = settings_variables() | gunicorn_variables() | make_variables() | constants()
    assert found - known - files == set()


def test_each_variable_that_is_read_is_explained():
    example = (ROOT / ".env.example").read_text()
    explained = set(spans(ROOT / "docs" / "deploying.md"))
    variables = settings_variables()
    assert "CLERK_SECRET_KEY" in variables
    for variable in variables:
        assert re.search(rf"^(?:# )?{variable}=", example, re.MULTILINE), (
            f".env.example: {variable}"
        )
        assert variable in explained, f"docs/deploying.md: {variable}"


# --- Words that people look up -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "labels"),
    [
        ("troubleshooting.md", UserStatus),
        ("troubleshooting.md", Status),
        ("events.md", DeliveryStatus),
        ("events.md", InvitationStatus),
    ],
)
def test_each_state_that_a_page_of_the_admin_shows_is_explained(page: str, labels: TextChoices):
    rows = (ROOT / "docs" / page).read_text()
    missing = [label for label in labels.labels if not re.search(rf"^ *\| {label} \|", rows, re.M)]
    assert not missing


def sources() -> str:
    """Return what the application may say, texts of several lines joined."""
    files = [
        *ROOT.glob("users/**/*.py"), *ROOT.glob("staff/**/*.py"), *ROOT.glob("demo/**/*.py"),
        *ROOT.glob("templates/**/*.html"),
    ]  # fmt: skip
    texts = "\n".join(file.read_text() for file in files)
    return re.sub(r'"\s*\n\s*f?"', "", texts)


def test_each_message_that_is_quoted_is_one_of_ours():
    said, quoted = sources(), []
    for page in ROOT.glob("docs/*.md"):
        if page.name not in ("decisions.md", "clerk.md", "json.md", "quality.md"):
            quoted += re.findall(r'"([^"`]{15,})"', without_fences(page))
    assert len(quoted) > 10
    assert [one for one in quoted if one.strip("… ") not in said] == []


def test_each_kind_of_difference_is_explained():
    assert set(Kind.values) <= set(spans(ROOT / "docs" / "bulk.md"))


def test_the_changelog_begins_with_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert HEADING.findall((ROOT / "CHANGELOG.md").read_text())[1].split()[0] == version
