"""The wall clock of ExaBGP's host is set: its timers take the launcher's clock, which nobody sets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.peers.bgp_edge import Edge, agent_process, edge
from tests.peers.bird import Imports
from tests.peers.exabgp import LAUNCHER, PROGRAM
from tests.peers.shifted_clock import DAY_S, ShiftedClock
from tests.pops import VIP4, VIP6

pytestmark = pytest.mark.peer

HOLD_S = 3
STEPS = pytest.mark.parametrize("step_s", [DAY_S, -DAY_S], ids=["forward", "back"])


def both_at(edge: Edge) -> bool:
    return edge.bird.has(VIP4) and edge.bird.has(VIP6)


def heard(edge: Edge) -> tuple[Imports, Imports]:
    return edge.bird.imports("edge4"), edge.bird.imports("edge6")


@STEPS
def test_a_clock_that_is_set_costs_exabgp_by_itself_its_sessions(tmp_path: Path, step_s: float) -> None:
    """Forward, its hold timers run out at once; back, it sends no KEEPALIVE until the routers' run out."""
    clock = ShiftedClock(tmp_path)
    with edge(hold_s=HOLD_S, command=clock.command(PROGRAM)) as e, agent_process(e.exabgp):
        eventually(lambda: both_at(e))
        clock.set(step_s)
        eventually(lambda: not both_at(e), within_s=2 * HOLD_S)


@STEPS
def test_a_clock_that_is_set_costs_not_one_update(tmp_path: Path, step_s: float) -> None:
    clock = ShiftedClock(tmp_path)
    with edge(hold_s=HOLD_S, command=clock.command(LAUNCHER)) as e, agent_process(e.exabgp):
        eventually(lambda: both_at(e))
        before = heard(e)
        clock.set(step_s)
        end = time.monotonic() + 2 * HOLD_S
        eventually(lambda: time.monotonic() > end, within_s=3 * HOLD_S)
        assert both_at(e)
        assert heard(e) == before
