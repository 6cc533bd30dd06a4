"""Put the code of a mutant into the functions of a module that is already imported."""

from __future__ import annotations

import gc
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

Place = tuple[str, int]
"""The qualified name of a function and its first line."""


class AtImport(Exception):
    """The mutant changes what happens when the module is imported: no function can be swapped."""


class Module:
    """The living functions of one module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._compiled = compile(path.read_text(), str(path), "exec")
        self._codes = dict(_functions(self._compiled))
        self._living: dict[Place, list[FunctionType]] = defaultdict(list)
        for one in gc.get_objects():
            if isinstance(one, FunctionType) and one.__code__.co_filename == str(path):
                self._living[one.__code__.co_qualname, one.__code__.co_firstlineno].append(one)

    def changed(self, source: str) -> dict[Place, CodeType]:
        """Return the new code of the functions that differ.

        Raises `AtImport` if anything else differs.
        """
        mutated = compile(source, str(self.path), "exec")
        codes = dict(_functions(mutated))
        if _at_import(mutated) != _at_import(self._compiled) or codes.keys() != self._codes.keys():
            raise AtImport
        changed = {
            place: code
            for place, code in codes.items()
            if _essence(code) != _essence(self._codes[place])
        }
        if not changed.keys() <= self._living.keys():
            raise AtImport
        return changed

    def swap(self, codes: dict[Place, CodeType]) -> None:
        for place, code in codes.items():
            for function in self._living[place]:
                function.__code__ = code


def _functions(code: CodeType) -> Iterator[tuple[Place, CodeType]]:
    """Yield the functions of a module and of its classes, not those within functions."""
    for one in code.co_consts:
        if not isinstance(one, CodeType):
            continue
        if one.co_flags & inspect.CO_OPTIMIZED:
            yield (one.co_qualname, one.co_firstlineno), one
        else:
            yield from _functions(one)


def _at_import(code: CodeType) -> object:
    """Return what runs at import: all but the bodies of functions."""
    parts: list[object] = []
    for one in code.co_consts:
        if not isinstance(one, CodeType):
            parts.append(repr(one))
        elif one.co_flags & inspect.CO_OPTIMIZED:
            parts.append(one.co_qualname)
        else:
            parts.append(_at_import(one))
    return code.co_code, code.co_names, parts


def _essence(code: CodeType) -> object:
    parts = [_essence(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_exceptiontable, parts
