"""What people see: a bar of long work on a terminal, a line every ten seconds elsewhere; tables."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich import progress
from rich.console import Console
from rich.table import Table

LINE_EVERY = 10.0

Tell = Callable[[int, int, str], None]
"""Called with how many are done, of how many (0: not known), and what else is to be said."""


class Steady:
    """A stream whose reader may go away (`| head`), whose disk may be full, and whose encoding
    may lack a character: the work of a command must not end by that."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with self._nobody_may_take_it():
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()

    def flush(self) -> None:
        with self._nobody_may_take_it():
            self._stream.flush()

    @contextmanager
    def _nobody_may_take_it(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # What is still in the buffer goes nowhere, at the end of the process too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not isinstance(error, BrokenPipeError):
                steady(sys.stderr).write(
                    f"The rest of the output could not be written: {error.strerror}.\n"
                )


def steady(stream: TextIO) -> TextIO:
    """Return the stream as a `Steady` one."""
    return cast(TextIO, Steady(stream))


@contextmanager
def watching(what: str, stream: Any, *, quiet: bool = False) -> Iterator[Tell]:
    """Show how far `what` has come on `stream`."""
    if quiet:
        yield lambda done, total, note: None
    elif getattr(stream, "isatty", lambda: False)():
        with _bar(stream) as bar:
            task = bar.add_task(what, total=None, note="")

            def move(done: int, total: int, note: str) -> None:
                bar.update(task, completed=done, total=total or None, note=note)

            yield move
    else:
        yield _Lines(what, stream)


def _bar(stream: Any) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        # Django's wrapper ends everything with a newline, also what moves the cursor.
        console=Console(file=getattr(stream, "_out", stream)),
    )


class _Rate(progress.ProgressColumn):
    def render(self, task: progress.Task) -> str:
        return f"{task.speed:.0f}/s" if task.speed else ""


class _Lines:
    def __init__(self, what: str, stream: Any) -> None:
        self._what = what
        self._stream = stream
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._first is None:  # a resumed run does not begin at nothing
            self._first = done
        if now - self._last < LINE_EVERY:
            return
        self._last = now
        rate = (done - self._first) / (now - self._started)
        left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
        of = f" of {total}" if total else ""
        said = f", {note}" if note else ""
        self._stream.write(f"{self._what}: {done}{of}, {rate:.0f}/s{left}{said}\n")
        self._stream.flush()


def print_table(stdout: Any, table: Table) -> None:
    """As wide as the terminal; elsewhere wide enough that no value is broken."""
    terminal = getattr(stdout, "isatty", lambda: False)()
    console = Console(
        file=steady(sys.stdout),  # it flushes this file, also while it is captured
        width=None if terminal else 200,
        markup=False,
        force_terminal=terminal,
    )
    with console.capture() as captured:
        console.print(table)
    stdout.write(captured.get())
