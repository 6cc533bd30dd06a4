"""Convert the text of a cell to the value that its column in the table holds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.core.exceptions import ValidationError
from django.db.models import TextChoices

from users.clerk import names
from users.models import InternalRole, Role
from users.sync.bulk import results
from users.sync.bulk.choosing import Groups
from users.validation import clean_email, clean_name

NONE = "(none)"
"""Text that empties a field; an empty cell leaves the field as it is."""

ROLES = {"role", "internal_role"}
"""Fields that are validated together, once each of them can be read."""

NO_VALUES = {"null", "none", "nil", "nan", "n/a", "na", "undefined", "true", "false", "-"}
PARTS_OF_NAMES = {"Null", "Na", "Nan"}
"""Words of `NO_VALUES` that are parts of real names when they are spelled like this."""
ERROR = re.compile(r"#[\w/]+[!?]|#N/?[AV]|Err:\d+", re.IGNORECASE)
"""The text of a failed formula: that of Excel in any language, of Google and of LibreOffice."""
FORMULA = ("=", "+", "-", "@")
_MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(
    rf"\d{{1,4}}[-/.]\d{{1,2}}([-/.]\d{{1,4}})?([t ]\d.*)?|\d{{1,2}}[-/. ]+{_MONTH}([-/., ]+\d+)?"
    rf"|{_MONTH}[-/. ]+\d{{1,4}}([, ]+\d{{4}})?",
    re.IGNORECASE,
)


class Cells:
    """Reads the cells of one file; loads the builder groups once for all of them."""

    def __init__(self) -> None:
        self._groups = Groups()

    def value(self, field: str, cells: Mapping[str, str]) -> str | None:
        """Return the value for the cell of a field, which is not empty.

        Raises `ValidationError`.
        """
        if field == "name":
            return _name(cells)
        cell = cells[field]
        _refuse_formula(cell)
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
    """Return a cell without the quote by which our own export protects it from spreadsheets."""
    return cell[1:] if cell.startswith("'") and results.FORMULA.match(cell) else cell


def text_of(field: str, cells: Mapping[str, str]) -> str:
    """Return the text of a field, for a name both of its parts as one.

    Raises `ValidationError`.
    """
    if field != "name" or "name" in cells:
        return cells[field]
    first, last = _parts(cells)
    if bool(first) != bool(last):
        missing = "last" if first else "first"
        raise ValidationError(
            f"the {missing} name is empty: write {NONE} if the person has one name alone"
        )
    return names.join(*("" if part.lower() == NONE else part for part in (first, last)))


def _parts(cells: Mapping[str, str]) -> tuple[str, str]:
    return cells.get("first_name", ""), cells.get("last_name", "")


def _name(cells: Mapping[str, str]) -> str:
    """Return the name, after checking each part: spreadsheets put other data into any column.

    Raises `ValidationError`.
    """
    if "name" in cells:
        _refuse_no_name(cells["name"], "Leave the cell empty if it is not known")
        return clean_name(cells["name"])
    faults: dict[str, None] = {}
    for part in _parts(cells):
        if part.lower() == NONE or part in PARTS_OF_NAMES:
            continue
        try:
            _refuse_no_name(part, f"Write {NONE} if the person has one name alone")
        except ValidationError as error:
            faults |= dict.fromkeys(error.messages)
    if faults:
        raise ValidationError("; ".join(faults))
    return clean_name(text_of("name", cells))


def _refuse_no_name(cell: str, advice: str) -> None:
    """Raise `ValidationError` for a text that is neither a name nor a part of one."""
    _refuse_formula(cell)
    if cell.startswith(FORMULA) and cell not in NO_VALUES:
        raise ValidationError(f"“{cell}” begins as a formula does, not as a name")
    if cell.lower() in NO_VALUES:
        raise ValidationError(f"“{cell}” is not a name. {advice}")
    if _DATE.fullmatch(cell):
        raise ValidationError(f"“{cell}” is a date, not a name")
    if not any(character.isalpha() for character in clean_name(cell)):
        raise ValidationError(f"“{cell}” is a number, not a name")


def _refuse_formula(cell: str) -> None:
    """Raise `ValidationError` for a formula, and for the error text of a failed one."""
    if ERROR.fullmatch(cell):
        raise ValidationError(f"“{cell}” is an error of the spreadsheet")
    if cell.startswith("="):
        raise ValidationError(
            f"“{cell}” is a formula. Save the file with its results: copy, paste as values"
        )


def _choice(choices: type[TextChoices], cell: str) -> str:
    """Return the choice with this value or label, ignoring case.

    Raises `ValidationError`.
    """
    for value, label in choices.choices:
        if cell.lower() in (value.lower(), label.lower()):
            return str(value)
    raise ValidationError(f"“{cell}” is none of {', '.join(choices.values)}")
