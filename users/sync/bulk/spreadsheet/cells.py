"""What one cell says, as the column of the table holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError

from users.clerk import names
from users.models import InternalRole, Role
from users.sync.bulk import results
from users.sync.bulk.choosing import Groups
from users.validation import clean_email, clean_name

NONE = "(none)"
"""Empties a field; an empty cell leaves it as it is."""

NO_VALUES = {"null", "none", "nil", "nan", "n/a", "na", "undefined", "true", "false", "-"}
ERRORS = {"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!"}
FORMULA = ("=", "+", "-", "@")
_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(
    rf"\d{{1,4}}[-/.]\d{{1,2}}([-/.]\d{{1,4}})?([t ]\d.*)?|\d{{1,2}}[-/. ]+{_MONTH}([-/., ]+\d+)?"
    rf"|{_MONTH}[-/. ]+\d{{1,4}}([, ]+\d{{4}})?",
    re.IGNORECASE,
)


class Cells:
    """Reads the cells of one file; holds the builder groups for that."""

    def __init__(self) -> None:
        self._groups = Groups()

    def value(self, field: str, cell: str) -> Any:
        """The value that a cell which is not empty stands for. Raises `ValidationError`."""
        if cell.upper() in ERRORS:
            raise ValidationError(f"“{cell}” is an error of the spreadsheet")
        if cell.startswith("="):
            raise ValidationError(
                f"“{cell}” is a formula. Save the file with its results: copy, paste as values"
            )
        if field == "name":
            return _name(cell)
        if field == "email":
            return clean_email(cell)
        if field == "role":
            return _choice(Role, cell)
        if cell.lower() == NONE:
            return None
        if field == "internal_role":
            return _choice(InternalRole, cell)
        try:
            return str(self._groups.get(cell).pk)
        except KeyError as error:
            raise ValidationError(f"there is no {error.args[0]}") from None


def unquoted(cell: str) -> str:
    """A cell as it was before an export of ours quoted it for spreadsheets."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(results.FORMULA) else cell


def name_of(cells: Mapping[str, str]) -> str:
    """The cell of the name, or both of its parts as one. Raises `ValidationError`."""
    if "name" in cells:
        return cells["name"]
    first, last = (cells.get(part, "") for part in ("first_name", "last_name"))
    if bool(first) != bool(last):
        missing = "last" if first else "first"
        raise ValidationError(
            f"the {missing} name is empty: write {NONE} if the person has one name alone"
        )
    for part in (first, last):
        if part == "NULL":  # in capitals, as databases export it: Null is a surname
            raise ValidationError("“NULL” is not a name. Leave the cell empty if it is not known")
    return names.join(*("" if part.lower() == NONE else part for part in (first, last)))


def _name(cell: str) -> str:
    """A name that is one: spreadsheets put other things into any column."""
    if cell.startswith(FORMULA) and cell not in NO_VALUES:
        raise ValidationError(f"“{cell}” begins as a formula does, not as a name")
    if cell.lower() in NO_VALUES:
        raise ValidationError(f"“{cell}” is not a name. Leave the cell empty if it is not known")
    if _DATE.fullmatch(cell):
        raise ValidationError(f"“{cell}” is a date, not a name")
    name = clean_name(cell)
    if not any(character.isalpha() for character in name):
        raise ValidationError(f"“{cell}” is a number, not a name")
    return name


def _choice(choices: Any, cell: str) -> str:
    """By value or label, ignoring case."""
    for value, label in choices.choices:
        if cell.lower() in (value.lower(), label.lower()):
            return str(value)
    raise ValidationError(f"“{cell}” is none of {', '.join(choices.values)}")
