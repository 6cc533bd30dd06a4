"""Make the mutants of a module by the operators of cosmic-ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import cosmic_ray.plugins
from cosmic_ray.ast import ast_nodes, get_ast

from tests.mutants.plan import OPERATORS


@dataclass(frozen=True)
class Mutant:
    module: str
    operator: str
    line: int
    source: str
    change: str
    """The lines that differ."""


def of(module: str) -> list[Mutant]:
    """Return the mutants of a module, without those that Python cannot compile."""
    source = Path(module).read_text()
    nodes = list(ast_nodes(get_ast(source)))
    starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    found: dict[str, Mutant] = {}
    for name in OPERATORS:
        operator = cosmic_ray.plugins.get_operator(f"core/{name}")()
        for node in nodes:
            for index, ((line, _), _) in enumerate(list(operator.mutation_positions(node))):
                first, column = node.get_start_pos_of_prefix()
                start, before = starts[first - 1] + column, node.get_code()
                undo = _remember(node)
                mutated = operator.mutate(node, index)
                after = "" if mutated is None else mutated.get_code()
                undo()
                text = source[:start] + after + source[start + len(before) :]
                if _compiles(text):
                    change = "\n".join(_lines(source, text))
                    found.setdefault(text, Mutant(module, name, line, text, change))
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _remember(node: Any) -> Callable[[], None]:
    """Return a function that takes a mutation of this node back: operators change it in place."""
    inner = [one for one in ast_nodes(node) if hasattr(one, "children")]
    children = [(one, list(one.children)) for one in inner]
    values = [(one, one.value) for one in ast_nodes(node) if hasattr(one, "value")]

    def undo() -> None:
        for one, kept in children:
            one.children = kept
        for one, value in values:
            one.value = value

    return undo


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _lines(source: str, text: str) -> Iterator[str]:
    before, after = source.splitlines(), text.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        before.pop()
        after.pop()
    yield from (f"-{line}" for line in before)
    yield from (f"+{line}" for line in after)
