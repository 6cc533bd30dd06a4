"""Run mutation tests: `python -m tests.mutants [GROUP ...]`, see `make mutants`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.mutants import mutations
from tests.mutants.plan import GROUPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", default=[], help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--modules", nargs="*", default=[], help="only these of their modules")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--again", type=Path, help="only those that survived in these results")
    parser.add_argument("--slow", action="store_true", help="let them meet the slower tests, too")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    options.results.unlink(missing_ok=True)
    for name in options.groups or GROUPS:
        _run(name, options)
    _report(options.results)


def _run(name: str, options: argparse.Namespace) -> None:
    group = GROUPS[name]
    modules = [
        one for one in group.modules if not options.modules or Path(one).stem in options.modules
    ]
    found = [mutant for module in modules for mutant in mutations.of(module)]
    tests = (*group.tests, *group.more) if options.slow else group.tests
    if options.again:
        survived = {(one["module"], one["change"]) for one in _survivors(options.again)}
        found = [one for one in found if (one.module, one.change) in survived]
    with TemporaryDirectory() as folder:
        mutants = Path(folder) / "mutants.jsonl"
        mutants.write_text("\n".join(json.dumps(asdict(mutant)) for mutant in found))
        command = [
            sys.executable, "-m", "pytest", "-p", "tests.mutants.plugin", "-p", "no:cacheprovider",
            "-n", "0", "--reuse-db", "--hypothesis-seed=0", "--assert=plain", "--tb=native",
            f"--mutants={mutants}",
            f"--results={options.results}", f"--processes={options.processes}",
            "tests/mutants/warm_up.py", *tests,
        ]  # fmt: skip
        if subprocess.run(command, check=False).returncode:
            sys.exit(f"The tests of {name} do not pass without a mutant.")


def _results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _survivors(path: Path) -> list[dict[str, Any]]:
    return [one for one in _results(path) if one["outcome"] in ("survived", "not called")]


def _report(path: Path) -> None:
    outcomes: dict[str, Counter[str]] = {}
    for result in _results(path):
        outcomes.setdefault(result["module"], Counter())[result["outcome"]] += 1
    for result in sorted(_survivors(path), key=lambda one: (one["module"], one["line"])):
        print(f"{result['module']}:{result['line']} {result['outcome']}\n{result['change']}\n")
    for module, counts in sorted(outcomes.items()):
        print(module, *(f"{count} {outcome}" for outcome, count in counts.most_common()), sep=", ")


if __name__ == "__main__":
    main()
