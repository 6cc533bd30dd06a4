"""Write files of bulk commands: completely or not at all, and readable by their owner only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from users.errors import BulkRefused


@contextmanager
def written(file: Path) -> Iterator[TextIO]:
    """Write a temporary file beside `file`, and rename it at the end.

    If anything fails, the earlier file stays. The mode is 0600, as plans and results hold personal
    data. Raises `BulkRefused` when the file cannot be written.
    """
    file = file.resolve()
    temporary = None
    try:
        if file.exists() and not file.is_file():
            raise BulkRefused(f"{file} cannot be written: it is not a file.")
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as text:
            yield text
            text.flush()
            os.fsync(text.fileno())
        os.replace(temporary, file)
        temporary = None
    except OSError as error:
        raise BulkRefused(f"{file} cannot be written: {error.strerror}.") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Raise `BulkRefused` before the work if an output file cannot be used.

    That is so if a file would be read and written, or written twice, if it exists, or if its folder
    does not exist.
    """
    # `Path.resolve` raises `RuntimeError` for links that lead to each other.
    seen = {os.path.realpath(file): name for name, file in inputs.items() if file is not None}
    for name, file in outputs.items():
        if file is None:
            continue
        real = os.path.realpath(file)
        if other := seen.get(real):
            raise BulkRefused(
                f"{name} and {other} name the same file, {file}. Nothing was changed; give "
                f"{name} another name."
            )
        if os.path.lexists(file):
            raise BulkRefused(f"{file} exists. Nothing was changed; give {name} a new name.")
        if not os.path.isdir(os.path.dirname(real)):
            raise BulkRefused(f"{name} {file}: the folder {file.parent} does not exist.")
        seen[real] = name
