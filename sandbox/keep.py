"""Store the state in a file, so that the demo continues after a restart."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

from sandbox.state import Json

SECONDS = 0.5


class StateFileError(Exception):
    """The state file cannot be read. The text says what to do."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(
            f"the state file {file} cannot be read ({reason}); "
            "delete it to start with no users, or put a good copy in its place"
        )


class Keeper:
    """Load the file at the start, and write it within half a second after each change.

    Raises `StateFileError` if the file cannot be read or holds no state.
    """

    def __init__(self, file: Path, dump: Callable[[], str], load: Callable[[Json], None]) -> None:
        self._file = file
        self._dump = dump
        self._written = ""
        self._stopped = threading.Event()
        if file.exists():
            _load(file, load)
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write the last changes, and end the thread."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        text = self._dump()
        if text != self._written:
            draft = self._file.with_suffix(".draft")
            draft.write_text(text)
            os.replace(draft, self._file)
            self._written = text


def _load(file: Path, load: Callable[[Json], None]) -> None:
    try:
        load(json.loads(file.read_text()))
    except OSError as error:
        raise StateFileError(file, error.strerror or "no access") from error
    except (ValueError, RecursionError) as error:
        raise StateFileError(file, str(error)) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise StateFileError(file, "it holds something else") from error
