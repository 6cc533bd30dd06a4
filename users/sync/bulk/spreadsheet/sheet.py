"""Define what the readers of all formats return: rows of texts, and faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from users.validation import trimmed


@dataclass(frozen=True)
class Row:
    """The cells of one row as texts, and the line on which the row begins."""

    line: int
    cells: tuple[str, ...]

    @property
    def blank(self) -> bool:
        """Return whether all cells are empty."""
        return not any(self.cells)

    def trimmed(self) -> Row:
        """Return the row without white space and invisible characters around its texts."""
        return Row(self.line, tuple(map(trimmed, self.cells)))


@dataclass(frozen=True)
class Sheet:
    """The rows of a file; `read_as` is a sentence about what was detected or assumed.

    `full_rows` says that every row has a cell for each column: a shorter row was cut off.
    """

    rows: Iterator[Row]
    read_as: str
    full_rows: bool


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    `column` is the header as it is in the file, empty if the fault concerns the whole line.
    """

    line: int
    message: str
    column: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}, {self.column}" if self.column else f"line {self.line}"
        return f"{place}: {self.message}"


class Unreadable(Exception):
    """The file cannot be read from this line on; the text says why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
