"""`popctl withdraw --for`, `popctl maintenance` and `popctl audit` as operators run them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from popctl.cli.durations import seconds_until
from popctl.cli.exits import Exit
from tests.unit.agent import api_rig
from tests.unit.cli.command_line import popctl

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


async def test_planned_work_is_ordered_shown_extended_and_cancelled(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        socket = agent.socket
        done = await popctl("withdraw", "vpn", "--reason", "router swap", "--for", "2h", socket=socket)
        assert done.code == Exit.OK, done.err
        assert "normal now, sessions unknown; no fleet: nobody else is asked" in done.err
        listed = await popctl("maintenance", "list", socket=socket)
        assert "vpn: withdrawn for another 1 h 59 m" in listed.out
        assert "router swap" in listed.out
        longer = await popctl(
            "maintenance", "extend", "vpn", "--for", "5h", "--reason", "late parts", "--json", socket=socket
        )
        (order,) = longer.json["reply"]["intents"]
        assert 17_900 < order["expires_in_s"] <= 18_000
        shown = await popctl("maintenance", "show", "vpn", socket=socket)
        assert "late parts" in shown.out
        gone = await popctl("maintenance", "cancel", "vpn", "--reason", "done", socket=socket)
        assert (gone.code, gone.out) == (Exit.OK, "the order is lifted\n")
        await agent.until_announced()
        nothing = await popctl("maintenance", "show", "vpn", socket=socket)
        assert nothing.code == Exit.NOT_FOUND
    verified = await popctl("audit", "verify", str(tmp_path / "audit.jsonl"))
    assert verified.code == Exit.OK
    assert verified.out.startswith("3 entries, 0 problems; last is sha256:")


async def test_an_audit_file_that_was_edited_is_told_with_its_line(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        await popctl("withdraw", "--reason", "one", "--no-wait", socket=agent.socket)
        await popctl("announce", "--reason", "two", "--no-wait", socket=agent.socket)
    path = tmp_path / "audit.jsonl"
    path.write_text(path.read_text().replace('"reason":"one"', '"reason":"won"', 1))
    verified = await popctl("audit", "verify", str(path))
    assert verified.code == Exit.PROBLEMS
    assert "line 2: the line before it is not the one that it was written after" in verified.out


async def test_two_ends_at_once_or_one_in_the_past_are_wrong_usage_and_order_nothing(tmp_path: Path) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        both = await popctl("withdraw", "--reason", "r", "--for", "2h", "--until", "06:00", socket=agent.socket)
        past = await popctl("withdraw", "--reason", "r", "--until", "2020-01-01T06:00", socket=agent.socket)
        assert (both.code, past.code) == (Exit.USAGE, Exit.USAGE)
        assert "is past" in past.err
        assert not agent.store.intents


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12:30", 1800.0), ("06:00", 64_800.0), ("12:00", 86_400.0), ("2026-05-01T13:00", 3600.0)],
)
def test_a_time_of_day_is_the_next_one(text: str, seconds: float) -> None:
    assert seconds_until(text, NOON) == seconds


@pytest.mark.parametrize("text", ["25:00", "soon", "", "2026-13-01T00:00"])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 06:00"):
        seconds_until(text, NOON)
