"""What the documents say of the tests is true: every test that they name exists, and no invariant is without one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from popctl.model.reason import Reason

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
_NAMED = re.compile(r"`(tests/[\w/.*]+)?(?:::(\w+))?`")
_INVARIANTS = 7


def named(text: str) -> Iterator[tuple[str, str]]:
    """Yield file and test of everything that is named; a test without a file is of the file before it."""
    file = ""
    for path, test in _NAMED.findall(text):
        file = path or file
        if path or test:
            yield file, test


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(document: Path) -> None:
    for file, test in named(document.read_text()):
        found = sorted(ROOT.glob(file.rstrip("/")))
        assert found, f"{document.name} names {file}"
        if test:
            sources = "".join(path.read_text() for path in found)
            assert re.search(rf"def {test}\(", sources), f"{document.name} names {file}::{test}"


def test_each_invariant_has_a_test_that_guards_it() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().partition("## Invariants")[2]
    rows = {int(number): tests for number, tests in re.findall(r"^\| (\d) \|[^|]*\|(.*)\|$", table, re.MULTILINE)}
    assert sorted(rows) == list(range(1, _INVARIANTS + 1))
    for number, tests in rows.items():
        assert any(test for _, test in named(tests)), f"invariant {number}"


def test_every_reason_that_load_can_give_is_explained() -> None:
    table = (ROOT / "docs" / "capacity.md").read_text().partition("## Reasons")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    explained = {word for row in rows for word in re.findall(r"`([\w-]+)`", row)}
    sources = ("capacity.py", "gate.py", "load.py", "pop_load.py")
    text = "".join((ROOT / "popctl" / "core" / name).read_text() for name in sources)
    assert {Reason[name].value for name in re.findall(r"\bReason\.([A-Z_]+)", text)} <= explained
    assert explained <= {reason.value for reason in Reason}


def test_no_two_decisions_share_a_number() -> None:
    numbers = [path.name[:3] for path in (ROOT / "docs" / "decisions").iterdir()]
    assert sorted(numbers) == sorted(set(numbers))
    for path in (ROOT / "docs" / "decisions").iterdir():
        assert path.read_text().startswith(f"# {path.name[:3]}: ")
