"""What load has done survives a restart, byte for byte or loudly not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.agent.api_orders import Clocks
from popctl.agent.load_store import LoadKeeper
from popctl.model.capacity import CALM, Distrust, Expectation, LoadMemory, LoadPolicy, LoadSettings, LoadState, Pending
from popctl.model.damping import Penalty
from popctl.model.playbook import DEFAULT_LADDER
from popctl.model.reason import Reason
from popctl.model.route import RouteKey
from popctl.wire.errors import WireError
from popctl.wire.load_file import decode, encode
from tests.eventually import eventually_async
from tests.unit.agent.decisions import NO_DECISION

UNIX_S = 1_800_000_000.0
KEY = RouteKey(ip_address("192.0.2.1"), ip_network("198.51.100.0/24"))
POLICY = LoadPolicy()
STATE = LoadState(
    level=2,
    since=900.0,
    reason=Reason.SHED_LOAD,
    distrusted=(Distrust(before=1, after=2, until=1500.0, times=3),),
    ungated=(800.0, 850.0),
)
MEMORY = LoadMemory(state=STATE, ledger={KEY: Penalty(750.0, 950.0)})


def _again(memory: LoadMemory, *, away_s: float = 0.0, now: float = 1000.0) -> LoadMemory:
    """Write at 1000 on one boot's clock, read `away_s` later on a clock that says `now`."""
    content = encode(memory, DEFAULT_LADDER, unix_s=UNIX_S, now=1000.0)
    return decode(content, DEFAULT_LADDER, POLICY, unix_s=UNIX_S + away_s, now=now)


def test_what_is_written_comes_back() -> None:
    assert _again(MEMORY) == MEMORY


def test_instants_are_carried_over_to_the_clock_of_another_boot() -> None:
    found = _again(MEMORY, away_s=60.0, now=5.0)
    assert found.state.since == pytest.approx(5.0 - 160.0)
    assert found.state.distrusted[0].until == pytest.approx(5.0 + 440.0)
    assert found.ledger[KEY] == pytest.approx(Penalty(750.0, 5.0 - 110.0))


def test_a_wall_clock_that_was_set_back_puts_nothing_into_the_future() -> None:
    found = _again(MEMORY, away_s=-7200.0)
    assert found.state.since == 1000.0
    assert found.ledger[KEY].at == 1000.0


def test_distrust_does_not_last_for_as_long_as_a_wall_clock_was_wrong() -> None:
    """The host booted a year behind; what was written before lies a year ahead, until its clock is set."""
    found = _again(MEMORY, away_s=-365 * 86400.0)
    assert found.state.distrusted[0].until == 1000.0 + POLICY.backoff_max_s


def test_what_waits_for_verification_is_forgotten_and_where_it_stands_is_not() -> None:
    expected = (Expectation(pop="a", sessions_before=2.0, sessions_after=1.0),)
    pending = replace(STATE, pending=Pending(before=1, after=2, at=900.0, expected=expected), hot_since=10.0)
    assert _again(LoadMemory(state=pending)).state == STATE


def test_a_level_is_known_by_its_name_and_one_that_is_gone_is_normal() -> None:
    content = encode(MEMORY, DEFAULT_LADDER, unix_s=UNIX_S, now=1000.0)
    shorter = (DEFAULT_LADDER[0], DEFAULT_LADDER[2])
    assert decode(content, shorter, POLICY, unix_s=UNIX_S, now=1000.0).state.level == 1
    gone = decode(content, DEFAULT_LADDER[:2], POLICY, unix_s=UNIX_S, now=1000.0).state
    assert (gone.level, gone.reason) == (0, None)


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=4))
def test_a_file_that_was_changed_is_refused(at: int, by: bytes) -> None:
    content = encode(MEMORY, DEFAULT_LADDER, unix_s=UNIX_S, now=1000.0)
    at %= len(content)
    changed = content[:at] + by + content[at + len(by) :]
    try:
        found = decode(changed, DEFAULT_LADDER, POLICY, unix_s=UNIX_S, now=1000.0)
    except WireError:
        return
    # White space says nothing.
    assert found == MEMORY


def _keeper(path: Path, memory: list[LoadMemory]) -> LoadKeeper:
    clocks = Clocks(monotonic=lambda: 1000.0, wall=lambda: UNIX_S)
    return LoadKeeper(LoadSettings(services=frozenset({"vpn"})), path, lambda: memory[-1], clocks)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"[]", b"\xff\xff"])
def test_a_file_that_cannot_be_believed_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "load.json"
    path.write_bytes(content)
    assert _keeper(path, [MEMORY]).load() is None


def test_the_first_start_has_nothing_to_remember(tmp_path: Path) -> None:
    assert _keeper(tmp_path / "load.json", [MEMORY]).load() is None


async def test_the_agent_writes_what_changed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    memory = [LoadMemory(state=CALM)]
    keeper = _keeper(path, memory)
    running = asyncio.create_task(keeper.run())
    try:
        keeper.turn(0.0, (), NO_DECISION)
        memory.append(MEMORY)
        keeper.turn(1.0, (), NO_DECISION)
        await eventually_async(path.exists)
        assert json.loads(path.read_text())["load"]["level"] == "graceful-shutdown"
        assert _keeper(path, memory).load() == MEMORY
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
