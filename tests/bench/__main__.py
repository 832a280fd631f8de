"""Run the benches: one line per figure, and bench.json.

`python -m tests.bench [NAME ...]` runs all of them or the named ones. Each module of this folder that has a `measure()`
takes part; it returns figures of the form of `Figure`. Exit code 1 when a figure misses its bound.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import NotRequired, TypedDict

import tests.bench


class Figure(TypedDict):
    """One line of bench.json."""

    name: str
    value: float
    unit: str
    bound: float | None
    """What the value may not pass; None for figures that are only told."""
    ok: bool
    command: str
    note: NotRequired[str]


def benches() -> dict[str, str]:
    """Return bench name -> module name, for every module here that can measure."""
    return {
        info.name: f"{tests.bench.__name__}.{info.name}"
        for info in pkgutil.iter_modules(tests.bench.__path__)
        if not info.name.startswith("_")
    }


def main(names: list[str]) -> int:
    """Run and report."""
    known = benches()
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are: {', '.join(sorted(known))}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in names or sorted(known):
        module = importlib.import_module(known[name])
        for figure in getattr(module, "measure", list)():
            figures.append(figure)
            bound = "" if figure["bound"] is None else f"  bound {figure['bound']:g}"
            verdict = "ok  " if figure["ok"] else "MISS"
            print(f"{verdict} {figure['name']:<58} {figure['value']:>12.4g} {figure['unit']:<10}{bound}", flush=True)
    Path("bench.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0 if all(figure["ok"] for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
