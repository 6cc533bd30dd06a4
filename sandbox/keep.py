"""The state in a file, so that the demo goes on where it was."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from sandbox.state import State

SECONDS = 0.5


class Keeper:
    """Reads the file at its start and writes it within half a second of a change."""

    def __init__(self, state: State, file: Path) -> None:
        self._state = state
        self._file = file
        self._written = ""
        self._stopped = threading.Event()
        if file.exists():
            state.load(file.read_text())
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(SECONDS):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._state.lock:
            text = self._state.dump()
        if text != self._written:
            draft = self._file.with_suffix(".draft")
            draft.write_text(text)
            os.replace(draft, self._file)
            self._written = text
