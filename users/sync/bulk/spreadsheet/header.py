"""Find the fields in the columns of a spreadsheet, under any of their names."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from users.clerk import names
from users.sync.bulk.exports import Export, export_with
from users.sync.bulk.plan import counted
from users.sync.bulk.spreadsheet.cells import unquoted
from users.sync.bulk.spreadsheet.sheet import Fault, Row

CAN_BE_LEFT_OUT = "it can be left out"
PARTS = ("first_name", "last_name")
"""Two columns that together give `name`."""

NEVER_READ = ("created_at", "updated_at", "sign_in_state", "invitation", "last_sign_in")
"""Columns of our own exports that a spreadsheet cannot change."""

_ALIASES = {
    "id": ("userid",),
    "clerk_id": ("clerkuserid",),
    "email": ("mail", "emailaddress"),
    "name": ("fullname",),
    "first_name": ("givenname", "forename"),
    "last_name": ("surname", "familyname"),
    "role": (),
    "internal_role": (),
    "builder_group": ("group", "groupname", "company", "companyname", "buildergroupid"),
    "new_address": (),
    **dict.fromkeys(NEVER_READ, ()),
}  # fmt: skip


def _folded(header: str) -> str:
    """Return only the letters and digits of a header: “E-mail” becomes “email”."""
    return "".join(character for character in header.casefold() if character.isalnum())


FIELD_OF = {
    spelling: field
    for field, aliases in _ALIASES.items()
    for spelling in (_folded(field), *aliases)
}


@dataclass(frozen=True)
class Column:
    """One column that is read; `header` is its text in the file."""

    index: int
    field: str
    header: str

    @property
    def renamed(self) -> bool:
        """Return whether the file uses another name than the field's."""
        return self.header.lower() != self.field


@dataclass(frozen=True)
class Header:
    """The columns of a file; `line` is the line of the header.

    `left_out` are the headers of columns that are not read on purpose; `named` are the positions of
    all columns that have a header. `export` is set for a file that a command of ours has written.
    """

    line: int
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]
    named: frozenset[int]
    export: Export | None = None

    @property
    def fields(self) -> set[str]:
        """Return the fields that the columns give; the parts of a name give `name`."""
        found = {column.field for column in self.columns}
        return (found - set(PARTS)) | ({"name"} if found & set(PARTS) else set())

    def label(self, field: str) -> str:
        """Return the header of a field as it is in the file."""
        wanted = PARTS if field == "name" else ()
        found = [one.header for one in self.columns if one.field == field or one.field in wanted]
        return " + ".join(found) or field

    @property
    def note(self) -> str:
        """Return what is to be known of the columns; empty if they are read as they are.

        That is: whose export the file is, and which columns are renamed or not read.
        """
        shown = {one.field if one.field not in PARTS else "name" for one in self.columns
                 if one.renamed}  # fmt: skip
        read = [f"“{self.label(field)}” is read as {field}" for field in sorted(shown)]
        if self.left_out:
            read.append(f"not read: {', '.join(f'“{header}”' for header in self.left_out)}")
        said = "; ".join(read)
        sentences = [f"The file is {self.export.title}."] if self.export else []
        if said:
            sentences.append(f"{said[:1].upper()}{said[1:]}.")
        return " ".join(sentences)

    def cells(self, row: Row) -> dict[str, str]:
        """Return the texts of a row by field, without the quotes of our own exports."""
        return {
            column.field: unquoted("".join(row.cells[column.index : column.index + 1]))
            for column in self.columns
        }

    def faults_of(self, row: Row, *, full_rows: bool) -> Iterator[Fault]:
        """Yield what is wrong with the shape of a row."""
        width = max(self.named) + 1
        if full_rows and len(row.cells) < width:
            yield Fault(row.line, f"it has {counted(len(row.cells), 'cell')}, not {width}")
        for index, cell in enumerate(row.cells):
            if cell and index not in self.named:
                yield Fault(row.line, f"“{cell}” stands below no header", letter(index))


def read_header(
    row: Row, *, known: Collection[str], unread: Collection[str], ignore_unknown: bool
) -> tuple[Header, list[Fault]]:
    """Find the `known` fields in the columns, and everything that is wrong with the columns.

    Columns of the fields in `unread` are left out, and so are those of our own exports that name
    no user. With `ignore_unknown`, unknown columns are as well.
    """
    columns: list[Column] = []
    left_out: list[str] = []
    faults: list[Fault] = []
    named = [(index, names.squash(cell)) for index, cell in enumerate(row.cells) if cell]
    export = export_with([header for _, header in named])
    for index, header in named:
        field = FIELD_OF.get(_folded(header), "")
        of_export = export is not None and header in export.left_out
        left = field in NEVER_READ or field in unread or of_export
        if left or (field not in known and ignore_unknown):
            left_out.append(header)
        elif field not in known:
            unknown = f"unknown column “{header}”; {CAN_BE_LEFT_OUT}"
            faults.append(Fault(row.line, unknown, letter(index)))
        else:
            columns.append(Column(index, field, header))
    faults += _doubled(row.line, columns)
    places = frozenset(index for index, _ in named)
    return Header(row.line, tuple(columns), tuple(left_out), places, export), faults


def _doubled(line: int, columns: Sequence[Column]) -> Iterator[Fault]:
    """Yield a fault for each column that repeats a field, and for half a name."""
    first: dict[str, Column] = {}
    for column in columns:
        earlier = first.setdefault(column.field, column)
        if earlier is not column:
            yield _both(line, earlier, column, column.field)
    parts = [first[part] for part in PARTS if part in first]
    if parts and "name" in first:
        yield _both(line, first["name"], parts[0], "name")
    elif len(parts) == 1:
        other = "last" if parts[0].field == "first_name" else "first"
        missing = f"“{parts[0].header}” needs a column with the {other} name beside it"
        yield Fault(line, missing, letter(parts[0].index))


def _both(line: int, earlier: Column, later: Column, field: str) -> Fault:
    if earlier.header == later.header:
        return Fault(line, f"column “{later.header}” twice", letter(later.index))
    both = f"“{earlier.header}” and “{later.header}” are both {field}"
    return Fault(line, both, letter(later.index))


def letter(index: int) -> str:
    """Return a column as spreadsheets name it: "column A", "column AB"."""
    letters, index = "", index + 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"column {letters}"
