"""`popctl withdraw --for`, `popctl maintenance` and `popctl audit` as operators run them."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from popctl.cli.durations import moment_of
from popctl.cli.exits import Exit
from popctl.cli.main import run
from popctl.model.pop import Announce
from tests import pops
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
        # Why it takes longer is for the audit file; the order is still the one of whoever gave it, for his reason.
        assert order["reason"] == "router swap"
        told = await popctl("audit", "list", socket=socket)
        assert "extend withdraw vpn; late parts" in told.out
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


@pytest.mark.parametrize("order", [("withdraw",), ("maintenance", "extend", "vpn"), ("drain", "b1")], ids=" ".join)
async def test_no_time_at_all_is_not_for_ever(tmp_path: Path, order: tuple[str, ...]) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        if order[0] == "maintenance":
            await popctl("withdraw", "vpn", "--reason", "r", "--for", "2h", "--no-wait", socket=agent.socket)
        before = agent.store.intents
        refused = await popctl(*order, "--reason", "r", "--for", "0s", socket=agent.socket)
        assert refused.code == Exit.USAGE
        assert "--for: found 0: past; remedy: leave it out to let the order stand until it is lifted" in refused.err
        assert agent.store.intents == before


class Terminal(io.StringIO):
    """A terminal whose user takes ten minutes for an answer."""

    def __init__(self, clock: list[float], answer: str = "y\n") -> None:
        super().__init__()
        self._clock = clock
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self, _: int | None = -1) -> str:
        self._clock[0] += 600.0
        return self._answer


@pytest.mark.parametrize(("ahead_s", "left_s"), [(3600.0, 3000.0), (300.0, None)])
async def test_a_moment_does_not_move_while_the_operator_thinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead_s: float, left_s: float | None
) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        clock = [time.time()]
        until = datetime.fromtimestamp(clock[0] + ahead_s, UTC).isoformat()
        monkeypatch.setattr(time, "time", lambda: clock[0])
        monkeypatch.setattr(sys, "stdin", Terminal(clock))
        monkeypatch.setattr(sys, "stderr", said := Terminal(clock))
        words = ("withdraw", "--reason", "r", "--until", until, "--no-wait", "--socket", str(agent.socket))
        code = await asyncio.to_thread(run, words)
        if left_s is None:
            assert (code, agent.store.intents) == (Exit.USAGE, ())
            assert "--until: found a moment that has passed meanwhile" in said.getvalue()
        else:
            (intent,) = agent.store.intents
            assert intent.expires - time.monotonic() == pytest.approx(left_s, abs=30.0)


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yesterday\n"])
async def test_any_answer_but_yes_orders_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    async with api_rig.healthy(api_rig.small_pop(tmp_path)) as agent:
        monkeypatch.setattr(sys, "stdin", Terminal([0.0], answer))
        monkeypatch.setattr(sys, "stderr", said := Terminal([0.0]))
        words = ("withdraw", "--reason", "r", "--socket", str(agent.socket))
        assert await asyncio.to_thread(run, words) == Exit.DECLINED
        assert said.getvalue().endswith("go on? [y/N] popctl: nothing was ordered\n")
        assert (agent.store.intents, agent.announced()) == ((), {"vpn": Announce.NORMAL})


async def test_what_cannot_be_foreseen_stops_only_an_order_that_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent answers no more questions of this user, and takes orders all the same."""
    standing = api_rig.healthy(api_rig.small_pop(tmp_path), api_clock=lambda: 1000.0)
    async with standing as agent, api_rig.client_of(agent) as client:
        for _ in range(100):
            await client.get("/v1/whoami")
        withdraw = ("withdraw", "--reason", "r", "--no-wait", "--socket", str(agent.socket))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", Terminal([0.0]))
            patch.setattr(sys, "stderr", said := Terminal([0.0]))
            assert await asyncio.to_thread(run, withdraw) == Exit.BUSY
            assert "refused (too-many)" in said.getvalue()
            assert agent.store.intents == ()
        done = await popctl(*withdraw, "--yes", "--json")
        assert (done.code, done.json["ordered"], done.json["preview"]) == (Exit.OK, True, None)
        assert done.err.startswith("popctl: what will follow is not known: refused (too-many)")
        assert len(agent.store.intents) == 1


async def test_a_withdraw_that_refuses_new_sas_is_ordered_so_and_shown(tmp_path: Path) -> None:
    async with api_rig.running(pops.balanced(api_rig.small_pop(tmp_path))) as agent:
        words = ("withdraw", "vpn", "--reason", "r", "--drain", "15m", "--no-wait")
        done = await popctl(*words, "--refuse-new", socket=agent.socket)
        assert done.code == Exit.OK, done.err
        (intent,) = agent.store.intents
        assert intent.refuse_new
        shown = await popctl("maintenance", "show", "vpn", socket=agent.socket)
        assert "refuses new SAs" in shown.out


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12:30", 1800.0), ("06:00", 64_800.0), ("12:00", 86_400.0), ("2026-05-01T13:00", 3600.0)],
)
def test_a_time_of_day_is_the_next_one(text: str, seconds: float) -> None:
    assert moment_of(text, NOON) == NOON.timestamp() + seconds


@pytest.mark.parametrize("text", ["25:00", "soon", "", "2026-13-01T00:00"])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write 06:00"):
        moment_of(text, NOON)


@pytest.fixture
def _berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_berlin")
@pytest.mark.parametrize(
    ("now", "text", "utc"),
    [
        pytest.param("2026-10-24T22:00", "06:00", "2026-10-25T05:00", id="clocks go back in between"),
        pytest.param("2026-03-28T22:00", "06:00", "2026-03-29T04:00", id="clocks go forward in between"),
        pytest.param("2026-10-24T22:00", "2026-10-25T06:00", "2026-10-25T05:00", id="a moment behind the change"),
        pytest.param("2026-10-25T01:00", "02:30", "2026-10-25T00:30", id="told twice: the first is next"),
        pytest.param("2026-10-25T02:40", "02:30", "2026-10-25T01:30", id="told twice: the second is next"),
        pytest.param("2026-03-28T22:00", "02:30", "2026-03-29T01:30", id="left out: as if clocks had not changed"),
        pytest.param("2026-10-24T22:00", "2026-10-25T06:00+00:00", "2026-10-25T06:00", id="a zone of its own"),
    ],
)
def test_an_end_is_what_clocks_show_then(now: str, text: str, utc: str) -> None:
    assert moment_of(text, datetime.fromisoformat(now)) == datetime.fromisoformat(f"{utc}+00:00").timestamp()
