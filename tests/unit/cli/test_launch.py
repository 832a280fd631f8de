"""Commands that become another program, and parts that may be missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from popctl.cli import parts
from popctl.cli.exits import MEANINGS, Exit
from popctl.cli.main import build_app, run
from tests.unit.cli.command_line import popctl


async def test_agent_without_a_usable_configuration_exits_78_and_tells_why(tmp_path: Path) -> None:
    result = await popctl("agent", "--config", str(tmp_path / "none.yaml"))
    assert result.code == 78
    assert "none.yaml" in result.err


async def test_replay_of_something_that_is_no_journal_exits_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("nonsense\n")
    result = await popctl("replay", str(tmp_path / "journal.jsonl"))
    assert result.code != 0
    assert "line 1" in result.err


async def test_replay_says_in_json_too_how_it_ended(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    journal.write_text("")
    empty = await popctl("replay", str(journal), "--json")
    assert (empty.code, empty.json, empty.err) == (0, {"decisions": 0, "different": 0}, "")
    journal.write_text("nonsense\n")
    wrong = await popctl("replay", str(journal), "--json")
    assert (wrong.code, wrong.json["exit"], "line 1" in wrong.json["error"]) == (65, 65, True)


async def test_internet_that_was_made_is_told_in_json_too(tmp_path: Path) -> None:
    internet, fleet = str(tmp_path / "i.txt"), str(tmp_path / "f.json")
    words = ("--ases", "300", "--pops", "2", "--internet", internet, "--fleet", fleet, "--json")
    made = await popctl("topology", "generate", *words)
    assert made.code == 0, made.err
    found = made.json
    assert (found["internet"]["file"], found["internet"]["ases"]) == (internet, 300)
    assert found["internet"]["transit"] > 0
    assert found["fleet"] == {"file": fleet, "pops": 2, "sessions": 1_000_000}


async def test_lab_of_a_checkout_answers_for_itself() -> None:
    result = await popctl("lab", "--help")
    assert (result.code, "python -m lab" in result.out) == (0, True)


@pytest.mark.parametrize(
    ("extra", "remedy"), [("topology", "popctl[topology]"), ("", "popctl again, with what it depends on")]
)
def test_part_whose_package_is_missing_says_what_to_install(
    capsys: pytest.CaptureFixture[str], extra: str, remedy: str
) -> None:
    missing = parts.Part("plan", "tests.unit.cli.needs_missing_package", "plan_app", "x", extra)
    assert parts.command(missing)() == Exit.MISSING
    told = capsys.readouterr().err
    assert "needs the Python package 'popctl_no_such_package'" in told
    assert f"remedy: install {remedy}\n" in told


def test_only_parts_that_are_there_become_commands() -> None:
    names = {name for name, _ in parts.present()}
    assert names <= {part.command for part in parts.PARTS}
    assert all(name in build_app() for name in names)


def test_command_line_in_this_process_returns_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(("status", "--socket", "/nonexistent/api.sock")) == Exit.UNREACHABLE
    assert run(("frobnicate",)) == Exit.USAGE
    assert "no agent answers" in capsys.readouterr().err


def test_operations_guide_lists_every_exit_code_with_its_meaning() -> None:
    guide = Path("docs/operations.md").read_text()
    for code in Exit:
        assert f"\n| {int(code)} | " in guide
    assert set(MEANINGS) == set(Exit)
