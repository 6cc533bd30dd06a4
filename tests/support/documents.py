"""What commands tell machines with --json, compared with docs/json.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema

from tests.support.commands import ROOT, run_apart

_TEXT = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
SCHEMA = json.loads(_TEXT.split("```json")[1].split("```")[0])


def _keys() -> dict[str, set[str]]:
    """The keys of each command, by the table."""
    rows = re.findall(r"^\| (`.+`) \| (`.+`) \|$", _TEXT, re.MULTILINE)
    return {
        name: {"version", "command", "error", *re.findall("`(.+?)`", keys)}
        for names, keys in rows
        for name in re.findall("`(.+?)`", names)
    }


KEYS = _keys()


def read_document(name: str, out: str) -> dict[str, Any]:
    """The one document of `out`, which is as docs/json.md says."""
    [line] = out.splitlines()
    document: dict[str, Any] = json.loads(line)
    jsonschema.validate(document, SCHEMA)
    assert set(document) == KEYS[name]
    assert document["command"] == name
    return document


def document(name: str, *arguments: str | Path) -> dict[str, Any]:
    """What the command tells machines."""
    return read_document(name, run_apart(name, *arguments, "--json")[1])
