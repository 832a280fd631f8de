"""The playbook's file as the agent follows it: what fits is in force, what does not is an alarm and changes nothing."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from popctl.agent.api_orders import Clocks
from popctl.agent.events import PlaybookChanged
from popctl.agent.playbook_file import PlaybookFile
from popctl.core import gate, load_step
from popctl.model.capacity import LoadSettings
from popctl.model.floor import FleetSettings
from popctl.model.load import FleetLoad, PopLoad
from popctl.model.playbook import CLOCKS_DIFFER_S, PlaybookInForce, StepKey
from popctl.model.pop import Pop
from popctl.model.reason import Reason
from popctl.model.view import View
from tests.pops import pop

UNIX_S = 1_800_000_000.0
BOOK: dict[str, Any] = {
    "format": "popctl-playbook",
    "version": 1,
    "fleet": "test",
    "created_unix_s": UNIX_S - 3600.0,
    "pops": {
        "pop1": {"steps": [{"from": 0, "to": 1, "flows": [["pop1", "pop2", 0.3]]}]},
        "pop2": {"steps": [{"from": 0, "to": 1, "flows": [["pop2", "pop1", 0.3]]}]},
    },
}


@dataclass
class Desk:
    """A follower of a file, what it told the loop, and what it had audited."""

    path: Path
    now: float = 1000.0
    ahead_s: float = 0.0
    """By how much the wall clock of this host is wrong."""
    told: list[PlaybookInForce] = field(default_factory=list)
    audited: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    written: int = 0

    def __post_init__(self) -> None:
        clocks = Clocks(monotonic=lambda: self.now, wall=lambda: UNIX_S + self.now - 1000.0 + self.ahead_s)
        self.file = PlaybookFile(_pop(self.path), self._put, clocks, self._audit)

    def _put(self, event: PlaybookChanged) -> None:
        self.told.append(event.found)

    async def _audit(self, reason: str, details: dict[str, Any]) -> None:
        self.audited.append((reason, details))

    def write(self, content: bytes) -> None:
        self.path.write_bytes(content)
        self.written += 1
        # Coarse clocks of file systems must not hide a change.
        os.utime(self.path, ns=(self.written, self.written))

    @property
    def last(self) -> PlaybookInForce:
        return self.told[-1]


def _pop(path: Path) -> Pop:
    fleet = FleetSettings(name="test", region="eu", endpoints=("http://192.0.2.5:2379",))
    return replace(pop(), fleet=fleet, load=LoadSettings(services=frozenset({"vpn"}), playbook=path))


def _book(**changes: object) -> bytes:
    return json.dumps({**BOOK, **changes}).encode()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "playbook.json")


async def test_a_playbook_that_fits_is_in_force_with_its_age_on_the_hosts_clock(desk: Desk) -> None:
    desk.write(_book())
    await desk.file.look()
    assert desk.last.playbook is not None
    assert set(desk.last.playbook.steps) == {StepKey("pop1", 0, 1)}, "the part that this PoP needs"
    assert (desk.last.created, desk.last.problem) == (1000.0 - 3600.0, "")
    assert desk.audited[-1][1]["action"] == "playbook"


async def test_a_file_that_did_not_change_is_told_of_once(desk: Desk) -> None:
    desk.write(_book())
    for _ in range(3):
        await desk.file.look()
    assert len(desk.told) == len(desk.audited) == 1


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (_book(fleet="other"), "load.playbook: found other: was made for another fleet than test"),
        (_book(pops={"pop2": {}}), "load.playbook: found pop2: does not know the PoP pop1"),
        (
            _book(pops={"pop1": {"levels": [{"name": "normal"}]}}),
            "load.playbook: found level 1: has another ladder of levels for pop1",
        ),
        (_book(created_unix_s=UNIX_S - 8 * 86400), "load.playbook: found 192 h old: is older than 168 h"),
        (_book(created_unix_s=UNIX_S + 7200), "load.playbook: found made in 2.0 h: was made in the future"),
        (_book(version=2), "load.playbook: found 2: version: not 1"),
        (_book(pops={"pop1": {"steps": [{"from": 0, "to": 2, "flows": []}]}}), "pops.pop1.steps[0]"),
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8"),
    ],
)
async def test_a_file_that_does_not_fit_leaves_the_one_before_in_force_and_is_audited(
    desk: Desk, content: bytes, problem: str
) -> None:
    desk.write(_book())
    await desk.file.look()
    good = desk.last
    desk.write(content)
    await desk.file.look()
    assert (desk.last.playbook, desk.last.created) == (good.playbook, good.created)
    assert problem in desk.last.problem
    assert "remedy: " in desk.last.problem
    reason, details = desk.audited[-1]
    assert (reason, details["action"], details["problem"]) == (
        "the playbook was refused",
        "playbook-refused",
        desk.last.problem,
    )


async def test_a_file_that_is_gone_leaves_the_one_before_in_force_and_says_so(desk: Desk) -> None:
    desk.write(_book())
    await desk.file.look()
    desk.path.unlink()
    await desk.file.look()
    assert desk.last.playbook is not None
    assert "cannot be read: No such file or directory" in desk.last.problem


async def test_a_foreign_playbook_at_the_start_is_told_to_the_gate_which_refuses_it(desk: Desk) -> None:
    desk.write(_book(fleet="other"))
    await desk.file.look()
    assert desk.last.playbook is not None
    assert desk.last.playbook.fleet == "other"
    assert desk.last.problem


def _blind(desk: Desk) -> Reason | None:
    """What the gate has against what is in force."""
    view = View(playbook=desk.last)
    own = PopLoad(level=0, announcing=True, used={}, peak={}, capacity={}, at=desk.now)
    load = _pop(desk.path).load
    assert load is not None
    seen = FleetLoad(fleet="test", pops={"pop1": own}, at=desk.now)
    return gate.blind(load_step.case(_pop(desk.path), load, view, seen, desk.now), load.policies.gate, desk.now)


async def test_a_first_playbook_from_the_future_is_refused_by_the_gate_too(desk: Desk) -> None:
    desk.write(_book(created_unix_s=UNIX_S + 30 * 86400))
    await desk.file.look()
    assert "was made in the future" in desk.last.problem
    assert _blind(desk) is Reason.PLAYBOOK_FROM_FUTURE


@pytest.mark.parametrize("ahead_s", [30 * 86400.0, -30 * 86400.0])
async def test_a_wall_clock_that_is_set_right_makes_the_same_file_good(desk: Desk, ahead_s: float) -> None:
    desk.ahead_s = ahead_s
    desk.write(_book())
    await desk.file.look()
    assert desk.last.problem
    assert _blind(desk) is not None
    desk.now += 20.0
    desk.ahead_s = 0.0
    await desk.file.look()
    assert (desk.last.problem, desk.last.created) == ("", 1000.0 - 3600.0)
    assert _blind(desk) is None


async def test_what_was_refused_is_judged_again_although_the_file_did_not_change(desk: Desk) -> None:
    desk.write(json.dumps(BOOK | {"created_unix_s": UNIX_S + CLOCKS_DIFFER_S + 3.0}).encode())
    await desk.file.look()
    assert "future" in desk.last.problem
    desk.now += 4.0
    await desk.file.look()
    assert desk.last.problem == ""


async def test_a_wall_clock_that_is_set_corrects_the_age_of_what_is_in_force(desk: Desk) -> None:
    desk.ahead_s = -1800.0
    desk.write(_book())
    await desk.file.look()
    assert (desk.last.problem, desk.last.created) == ("", 1000.0 - 1800.0)
    desk.ahead_s = 0.0
    for _ in range(3):
        await desk.file.look()
    assert (desk.last.problem, desk.last.created, len(desk.told)) == ("", 1000.0 - 3600.0, 2)
    assert len(desk.audited) == 1, "it is the same playbook"


async def test_a_wall_clock_that_drifts_is_not_told_of(desk: Desk) -> None:
    desk.write(_book())
    for number in range(5):
        desk.ahead_s = 0.5 * number
        await desk.file.look()
    assert len(desk.told) == 1


async def test_without_a_file_there_is_a_problem_and_no_playbook(desk: Desk) -> None:
    await desk.file.look()
    assert (desk.last.playbook, len(desk.told)) == (None, 1)
    await desk.file.look()
    assert len(desk.told) == 1


async def test_a_good_file_after_a_bad_one_ends_the_problem(desk: Desk) -> None:
    desk.write(b"{")
    await desk.file.look()
    desk.write(_book())
    await desk.file.look()
    assert desk.last.playbook is not None
    assert not desk.last.problem
