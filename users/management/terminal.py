"""The output of commands: progress of long work, and tables.

A terminal shows a bar. object other output gets a line every ten seconds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from django.core.management.base import OutputWrapper
from rich import progress
from rich.console import Console
from rich.table import Table

LINE_EVERY = 10.0

Tell = Callable[[int, int, str], None]
"""Called with the number done, the total (0 if not known), and a note."""


class Steady:
    """A stream whose failures do not end the work of a command.

    The reader may go away (`| head`), the disk may be full, and the encoding may lack a character.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        """Write and flush the text. Characters that the encoding lacks are written as escapes."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with self._nobody_may_take_it():
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self._stream.flush()

    def flush(self) -> None:
        """Flush what was written, if anybody still reads it."""
        with self._nobody_may_take_it():
            self._stream.flush()

    @contextmanager
    def _nobody_may_take_it(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Discard the rest of the buffer, so that the flush at exit does not fail either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not isinstance(error, BrokenPipeError):
                steady(sys.stderr).write(
                    f"The rest of the output could not be written: {error.strerror}.\n"
                )


def steady(stream: TextIO | None) -> TextIO:
    """Return the stream as a `Steady` one. None, as Python has it for a closed one, takes all."""
    return cast(TextIO, Steady(stream or open(os.devnull, "w", encoding="utf-8")))


@contextmanager
def watching(what: str, stream: OutputWrapper, *, quiet: bool = False) -> Iterator[Tell]:
    """Show the progress of `what` on `stream`."""
    if quiet:
        yield lambda done, total, note: None
    elif stream.isatty():
        with _bar(stream) as bar:
            task = bar.add_task(what, total=None, note="")

            def move(done: int, total: int, note: str) -> None:
                bar.update(task, completed=done, total=total or None, note=note)

            yield move
    else:
        yield _Lines(what, stream)


def _bar(stream: OutputWrapper) -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        _Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
        # Django's wrapper ends every write with a newline, even one that only moves the cursor.
        console=Console(file=cast(TextIO, stream._out)),
    )


class _Rate(progress.ProgressColumn):
    def render(self, task: progress.Task) -> str:
        return f"{task.speed:.0f}/s" if task.speed else ""


class _Lines:
    def __init__(self, what: str, stream: OutputWrapper) -> None:
        self._what = what
        self._stream = stream
        self._started = self._last = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if self._first is None:  # a resumed run does not begin at 0
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


def print_table(stdout: OutputWrapper, table: Table) -> None:
    """Print a table as wide as the terminal.

    Elsewhere it is wide enough that no value is broken.
    """
    terminal = stdout.isatty()
    console = Console(
        file=steady(sys.stdout),  # rich flushes this file even while the output is captured
        width=None if terminal else 200,
        markup=False,
        force_terminal=terminal,
    )
    with console.capture() as captured:
        console.print(table)
    stdout.write(captured.get())
