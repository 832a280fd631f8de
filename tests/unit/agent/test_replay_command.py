"""`popctl replay` as scripts see it: its exit code says whether the decisions are the same, others, or unreadable."""

from __future__ import annotations

from pathlib import Path

import pytest

from popctl.agent.journal import Journal
from popctl.cli.exits import Exit
from tests.timeline.story import Story
from tests.unit.cli.command_line import popctl
from tests.unit.config.samples import minimal, parse_minimal


def lived(path: Path) -> Path:
    """Let a PoP rise and fall, with the journal of an agent."""
    story = Story(parse_minimal())
    journal = Journal(path, world=story.world, config_text=minimal(), source="popctl.yaml", wall_clock=lambda: 1.7e9)
    journal.open(0.0)
    story.sinks.append(journal)
    story.passes(1, begin=0.1, end=20)
    story.refuses(1, begin=20, end=22)
    story.run_to(30.0)
    journal.close()
    return path


async def test_the_same_decisions_exit_0(tmp_path: Path) -> None:
    result = await popctl("replay", str(lived(tmp_path / "journal.jsonl")))
    assert (result.code, "DIFFERENT" in result.out) == (Exit.OK, False)
    assert result.err.endswith(" decisions, 0 different\n")
    assert "normal (healthy)" in result.out


async def test_a_decision_that_differs_exits_1_and_is_shown(tmp_path: Path) -> None:
    journal = lived(tmp_path / "journal.jsonl")
    written = journal.read_text()
    assert '"healthy":1' in written
    journal.write_text(written.replace('"healthy":1', '"healthy":7', 1))
    result = await popctl("replay", str(journal))
    assert result.code == Exit.PROBLEMS
    assert result.err.endswith(" decisions, 1 different\n")
    assert result.out.count("DIFFERENT") == 1


@pytest.mark.parametrize("content", [b"nonsense\n", b"\xff\xfe\n", None], ids=["another file", "no text", "none"])
async def test_what_cannot_be_read_is_neither_the_same_nor_wrong_usage(tmp_path: Path, content: bytes | None) -> None:
    journal = tmp_path / "journal.jsonl"
    if content is not None:
        journal.write_bytes(content)
    result = await popctl("replay", str(journal))
    assert (result.code, result.out) == (Exit.UNREADABLE, "")
    assert str(journal) in result.err


async def test_wrong_usage_exits_2(tmp_path: Path) -> None:
    result = await popctl("replay", str(tmp_path), "--frobnicate")
    assert result.code == Exit.USAGE
