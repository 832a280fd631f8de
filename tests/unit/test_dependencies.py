"""What is shipped needs nothing that its metadata does not name: an installation without the checkout works."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"popctl", "topology"}
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: Iterable[str]) -> set[str]:
    found = (_NAME.match(one) for one in requirements)
    return {normal(match[0]) for match in found if match}


DEPENDENCIES = names(PROJECT["dependencies"])
EXTRAS = {name: names(wanted) for name, wanted in PROJECT["optional-dependencies"].items()}


def imported(file: Path) -> Iterator[str]:
    """Yield the top names of all that a file imports, inside functions, too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]


def undeclared(folder: Path, allowed: set[str], ours: set[str]) -> dict[str, list[str]]:
    """Return distributions that `folder` needs and may not, with the files that do."""
    providers = packages_distributions()
    known = sys.stdlib_module_names | ours
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*.py")):
        for name in set(imported(file)) - known:
            distributions = {normal(one) for one in providers.get(name, [f"nobody's {name}"])}
            if not distributions & allowed:
                found.setdefault(min(distributions), []).append(str(file.relative_to(ROOT)))
    return found


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [("popctl", DEPENDENCIES), ("topology", DEPENDENCIES.union(*EXTRAS.values()))],
    ids=["popctl", "topology"],
)
def test_every_import_of_what_is_shipped_is_a_declared_dependency(folder: str, allowed: set[str]) -> None:
    """Whoever installs popctl without an extra has all of popctl/; topology/ may need the extras."""
    assert undeclared(ROOT / folder, allowed, OURS) == {}


def test_the_relay_needs_the_standard_library_and_itself_alone() -> None:
    relay = ROOT / "exabgp" / "relay"
    assert undeclared(relay, set(), {file.stem for file in relay.glob("*.py")}) == {}


def test_every_dependency_is_imported_and_has_its_sentence() -> None:
    used = set().union(*(imported(file) for folder in OURS for file in (ROOT / folder).rglob("*.py")))
    providers = packages_distributions()
    distributions = {normal(one) for name in used for one in providers.get(name, ())}
    sentences = (ROOT / "docs" / "dependencies.md").read_text()
    # ExaBGP is a program; nobody imports it.
    assert DEPENDENCIES.union(*EXTRAS.values()) - distributions <= {"exabgp"}
    assert {name for name in DEPENDENCIES.union(*EXTRAS.values()) if f"**{name}**" not in sentences} == set()


def test_the_lock_pins_every_dependency() -> None:
    pinned = set(re.findall(r"^([a-z0-9.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert DEPENDENCIES.union(*EXTRAS.values()) <= pinned
