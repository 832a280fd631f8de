"""A playbook that `popctl plan` makes of the lab, in its PoPs: their gates let load move by it, or say why not.

Real clients fill a small PoP; meters, agents, ExaBGP, routers and the store are those of the lab.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from lab.scene import POPS, PREFIX
from tests.eventually import eventually
from tests.lab.crowd import Crowd
from tests.lab.metered import metered, watchful
from tests.lab.store import Fleet, joined
from tests.lab.working_pop import WorkingPop

pytestmark = pytest.mark.lab

MODEL = "/opt/popctl/lab/model"
DEMAND, PLAYBOOK, LOAD_FILE = "/run/lab/demand.csv", "/var/lib/popctl/playbook.json", "/var/lib/popctl/load.json"
SCARCE, AMPLE = 4.0, 40.0
"""Sessions that PoP 1 has room for, and PoP 2 without and with room."""
ALL = 5
"""Clients that come in the end; three are not too many."""
_LOAD = f"""\
load:
  playbook: {PLAYBOOK}
  hot_for: 1s
  dwell: 6s
  restore_dwells: 1
  smoothing: 300ms
  peak_half_life: 1s
  stale_after: 3s
  gate: {{view_stale_after: 5s}}
"""


def plan(fleet: Fleet) -> None:
    """Make the playbook on an edge host, of a fleet all of whose users are where the lab's client is, for both PoPs."""
    maker = fleet.one
    maker.write(DEMAND, f"asn,sessions\n64500,{ALL}\n")
    files = ["--internet", f"{MODEL}/internet.txt", "--fleet", f"{MODEL}/fleet.json", "--demand", DEMAND]
    made = maker.cli("plan", "playbook", *files, "--cache", "/run/lab/cache", "--engine", "numpy", "--out", PLAYBOOK)
    assert made.returncode == 0, made.stdout + made.stderr
    fleet.two.write(PLAYBOOK, maker.read(PLAYBOOK))


@pytest.fixture(scope="module")
def fleet(working_pops: dict[str, WorkingPop]) -> Iterator[Fleet]:
    """Both PoPs, metered and steered by load; neither has more room than the other."""
    for pop in working_pops.values():
        pop.until_settled()
    gateways = tuple(node for pop in working_pops.values() for node in (pop.first, pop.second))
    with joined(working_pops) as found, watchful(found.driver, gateways), ExitStack() as stack:
        plan(found)
        for pop in working_pops.values():
            pop.configuration = pop.configuration.replace("profile: quick", f"{room(SCARCE)}, profile: quick") + _LOAD
            stack.enter_context(metered(pop))
        yield found
    for pop in working_pops.values():
        assert pop.driver.exec(pop.name, ["rm", "-f", LOAD_FILE]).returncode == 0


@pytest.fixture
def crowd(fleet: Fleet) -> Iterator[Crowd]:
    found = Crowd(fleet.driver, ALL)
    yield found
    found.close()


def room(sessions: float) -> str:
    """Return the capacity of each of a PoP's two backends."""
    return f"capacity: {{sessions: {sessions / 2}}}"


@pytest.fixture
def ample(fleet: Fleet) -> Iterator[WorkingPop]:
    """PoP 2 with room for many."""
    before = fleet.two.configuration
    fleet.two.configure(before.replace(room(SCARCE), room(AMPLE)))
    yield fleet.two
    fleet.two.configure(before)


def load(pop: WorkingPop) -> Mapping[str, Any]:
    """Return what the agent says of its load."""
    return pop.status()["load"] or {}


def stands(pop: WorkingPop, level: int, reason: str) -> bool:
    """Whether the PoP stands on this level of its ladder, for this reason."""
    return (load(pop)["level"], load(pop)["reason"]) == (level, reason)


def prepended(pop: WorkingPop) -> bool:
    """Whether the upstream has the route with a longer path than the PoP's own AS."""
    with pop.scene.bird(POPS[pop.name]) as bird:
        path = re.search(r"BGP\.as_path: (.*)", bird.ask(f"show route {PREFIX} protocol {pop.name} all"))
    return path is not None and len(path[1].split()) > 1


def held_by(crowd: Crowd, pop: WorkingPop) -> Counter[str]:
    """Return how many of the crowd's tunnels each PoP holds."""
    found: Counter[str] = Counter()
    for label, count in crowd.holders().items():
        found[pop.scene.pop_of(label) or "nobody"] += count
    return found


def test_with_room_in_the_other_pop_load_moves_by_the_playbook_and_comes_back(
    fleet: Fleet, ample: WorkingPop, crowd: Crowd
) -> None:
    one = fleet.one
    eventually(lambda: load(one)["playbook"]["read"] and not load(one)["playbook"]["problem"])
    heard, quiet = one.updates(), ample.updates()
    crowd.grow(3)
    eventually(lambda: (load(one)["full"] or 0.0) >= 3 / SCARCE - 0.05)
    assert (held_by(crowd, one), one.updates()) == ({"pop1": 3}, heard)
    crowd.grow(ALL)
    eventually(lambda: prepended(one), within_s=20.0)
    # The clients are told nothing: their network turns to the other PoP.
    eventually(lambda: held_by(crowd, one) == {"pop2": ALL}, within_s=30.0)
    eventually(lambda: stands(one, 1, "not-cool-enough"), within_s=30.0)
    assert one.announced()
    crowd.leave()
    eventually(lambda: stands(one, 0, "") and not prepended(one), within_s=30.0)
    assert ample.updates() == quiet, "the one that has room tells its router nothing"


def test_without_room_in_the_other_pop_nothing_moves_and_the_reason_is_told(fleet: Fleet, crowd: Crowd) -> None:
    one = fleet.one
    heard = one.updates()
    crowd.grow(ALL)
    eventually(lambda: stands(one, 0, "no-room"), within_s=20.0)
    assert one.reason() == "no-room"
    assert "no-room" in one.cli("status").stdout
    assert (held_by(crowd, one), one.updates()) == ({"pop1": ALL}, heard)
