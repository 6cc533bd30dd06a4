"""A spreadsheet as the rest of the room sees it: texts in rows, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """The cells of one row as texts, and the line on which it begins."""

    line: int
    cells: tuple[str, ...]

    @property
    def blank(self) -> bool:
        return not any(cell.strip() for cell in self.cells)


@dataclass(frozen=True)
class Sheet:
    """The rows of a file. `read_as` is a sentence about what was found or assumed.

    `full_rows` says that every row has a cell for each column: a shorter one was cut off.
    """

    rows: Iterator[Row]
    read_as: str
    full_rows: bool


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong. `column` is the header as the file spells it, "" for the line."""

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
