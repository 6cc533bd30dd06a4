"""Small charts as SVG: the server computes the coordinates, and a template draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BAR = 16
STEP = 20
HEIGHT = 100


@dataclass(frozen=True)
class Column:
    """One column of a stacked chart: its label, and the amount of each series."""

    label: str
    amounts: tuple[int, ...]


@dataclass(frozen=True)
class Rect:
    """One rectangle, in units of the picture. `series` is its class in the stylesheet."""

    x: int
    y: int
    width: int
    height: int
    series: str


@dataclass(frozen=True)
class Stacked:
    """A chart of stacked columns. `series` names the parts, from the bottom to the top."""

    series: tuple[str, ...]
    columns: Sequence[Column]

    @property
    def most(self) -> int:
        """Return the amount of the highest column."""
        return max((sum(column.amounts) for column in self.columns), default=0)

    @property
    def width(self) -> int:
        """Return the width of the picture."""
        return STEP * len(self.columns)

    @property
    def height(self) -> int:
        """Return the height of the picture."""
        return HEIGHT

    @property
    def legend(self) -> list[tuple[str, str]]:
        """List the class and the name of each series."""
        return [(f"series-{index}", name) for index, name in enumerate(self.series)]

    @property
    def rects(self) -> list[Rect]:
        """List the rectangles. An amount that is not 0 is at least one unit high."""
        return [rect for index in range(len(self.columns)) for rect in self._column(index)]

    def _column(self, index: int) -> list[Rect]:
        rects, top = [], HEIGHT
        for series, amount in enumerate(self.columns[index].amounts):
            if amount:
                height = max(1, amount * HEIGHT // self.most)
                top -= height
                rects.append(Rect(index * STEP, top, BAR, height, f"series-{series}"))
        return rects


@dataclass(frozen=True)
class Bar:
    """One horizontal bar: label, amount, its length from 0 to 100, and a link."""

    label: str
    amount: int
    length: int
    url: str


def bars(amounts: Sequence[tuple[str, int, str]]) -> list[Bar]:
    """Make bars of (label, amount, link). An amount that is not 0 is at least one unit long."""
    most = max((amount for _, amount, _ in amounts), default=0)
    return [
        Bar(label, amount, max(1, amount * 100 // most) if amount else 0, url)
        for label, amount, url in amounts
    ]
