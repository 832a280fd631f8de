"""What services have been through survives a restart, or is loudly as good as nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popctl.agent import kept_file
from popctl.agent.api_orders import Clocks
from popctl.agent.services_store import ServicesKeeper
from popctl.model.announce import Announce
from popctl.model.past import Past, ServicePast
from popctl.wire.errors import WireError
from popctl.wire.sealed import checksum
from popctl.wire.services_file import ABSENCE_S, decode, encode
from tests.eventually import eventually_async
from tests.unit.agent.decisions import NO_DECISION

UNIX_S = 1_800_000_000.0
VPN = ServicePast(flaps=(700.0, 900.25), bad_since=900.25, lowered=Announce.DEPREFERRED)
PAST = Past({"vpn": VPN, "vpn6": ServicePast(flaps=(10.0,))})


def _again(past: Past, *, away_s: float = 0.0, now: float = 1000.0) -> Past:
    """Write at 1000 on one boot's clock, read `away_s` later on a clock that says `now`."""
    return decode(encode(past, unix_s=UNIX_S, now=1000.0), unix_s=UNIX_S + away_s, now=now)


def test_what_is_written_comes_back() -> None:
    assert _again(PAST) == PAST


def test_instants_are_carried_over_to_the_clock_of_another_boot() -> None:
    found = _again(PAST, away_s=60.0, now=5.0).services["vpn"]
    assert found.flaps == pytest.approx((5.0 - 360.0, 5.0 - 159.75))
    assert found.bad_since == pytest.approx(5.0 - 159.75)


def test_a_wall_clock_that_was_set_back_puts_nothing_into_the_future() -> None:
    assert _again(PAST, away_s=-7200.0).services["vpn"] == replace(VPN, flaps=(1000.0, 1000.0), bad_since=1000.0)


def test_after_a_long_absence_falls_count_and_nothing_else() -> None:
    """Nobody saw whether the service was good in between: it turns bad anew, and so does a common cause."""
    assert _again(PAST, away_s=ABSENCE_S).services["vpn"].bad_since is not None
    found = _again(PAST, away_s=ABSENCE_S + 1.0, now=1000.0 + ABSENCE_S + 1.0)
    assert found.services["vpn"] == ServicePast(flaps=VPN.flaps)


@given(st.integers(min_value=0), st.binary(min_size=1, max_size=4))
def test_a_file_that_was_changed_is_refused(at: int, by: bytes) -> None:
    content = encode(PAST, unix_s=UNIX_S, now=1000.0)
    at %= len(content)
    changed = content[:at] + by + content[at + len(by) :]
    try:
        found = decode(changed, unix_s=UNIX_S, now=1000.0)
    except WireError:
        return
    # White space says nothing.
    assert found == PAST


def _sealed(**change: object) -> bytes:
    """A file whose checksum is right and whose content is not."""
    document = json.loads(encode(PAST, unix_s=UNIX_S, now=1000.0))
    document["past"]["services"]["vpn"] |= change
    return json.dumps({**document, "checksum": checksum(document["past"])}).encode()


@pytest.mark.parametrize(
    "change",
    [{"lowered": "lower"}, {"flaps_unix_s": 7}, {"flaps_unix_s": ["x"]}, {"bad_since_unix_s": 10**400}],
)
def test_a_file_that_says_what_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(WireError):
        decode(_sealed(**change), unix_s=UNIX_S, now=1000.0)


def _keeper(path: Path, past: list[Past], unix_s: float = UNIX_S) -> ServicesKeeper:
    return ServicesKeeper(path, lambda: past[-1], Clocks(monotonic=lambda: 1000.0, wall=lambda: unix_s))


@asynccontextmanager
async def _running(keeper: ServicesKeeper) -> AsyncIterator[None]:
    running = asyncio.create_task(keeper.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"[]", b"\xff\xff"])
def test_a_file_that_cannot_be_believed_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "services.json"
    path.write_bytes(content)
    assert _keeper(path, [PAST]).load() is None


def test_the_first_start_has_nothing_to_remember(tmp_path: Path) -> None:
    assert _keeper(tmp_path / "services.json", [PAST]).load() is None


async def test_the_agent_writes_what_changed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "services.json"
    past = [Past()]
    keeper = _keeper(path, past)
    async with _running(keeper):
        keeper.turn(0.0, (), NO_DECISION)
        await asyncio.sleep(0)
        assert not path.exists()
        past.append(PAST)
        keeper.turn(1.0, (), NO_DECISION)
        await eventually_async(path.exists)
        assert _keeper(path, past).load() == PAST


async def test_a_disk_that_was_full_gets_the_file_with_the_next_decision(tmp_path: Path) -> None:
    keeper = _keeper(tmp_path / "later" / "services.json", [PAST])
    async with _running(keeper):
        for _ in range(3):
            keeper.turn(1.0, (), NO_DECISION)
            await asyncio.sleep(0)
        (tmp_path / "later").mkdir()

        def written() -> bool:
            keeper.turn(2.0, (), NO_DECISION)
            return (tmp_path / "later" / "services.json").exists()

        await eventually_async(written)


@pytest.mark.parametrize("past", [PAST, Past({"vpn": ServicePast(lowered=Announce.DEPREFERRED)})])
async def test_while_a_service_is_bad_the_file_says_that_the_agent_is_still_there(
    tmp_path: Path, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_file, "RENEW_S", 0.01)
    path = tmp_path / "services.json"
    path.write_bytes(encode(past, unix_s=UNIX_S, now=1000.0))
    before = path.read_bytes()
    keeper = _keeper(path, [past], unix_s=UNIX_S + 60.0)
    assert keeper.load() is not None
    async with _running(keeper):
        await eventually_async(lambda: path.read_bytes() != before)
