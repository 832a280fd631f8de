"""Two PoPs with real agents, daemons and routers in a fleet with a real etcd: one of them always goes on announcing."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest

from lab import daemons
from tests.eventually import eventually
from tests.lab.store import ETCD, LEASE_S, STORE, Fleet, joined
from tests.lab.working_pop import WorkingPop

pytestmark = pytest.mark.lab

SHARED = {"common-cause", "same-stage-everywhere"}
HOLDS = {*SHARED, "fleet-floor", "fleet-unreachable", "fleet-settling"}


class Lookout:
    """Looks at the upstreams without a rest: was there a moment at which nobody announced?"""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.fewest = len(fleet.pops)
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join(5.0)

    def _look(self) -> None:
        while not self._enough.wait(0.005):
            self.fewest = min(self.fewest, len(self._fleet.announcing()))
            self.looks += 1


@pytest.fixture(scope="module")
def in_fleet(working_pops: dict[str, WorkingPop]) -> Iterator[Fleet]:
    for pop in working_pops.values():
        pop.until_settled()
    with joined(working_pops) as fleet:
        yield fleet


@pytest.fixture
def fleet(in_fleet: Fleet) -> Iterator[Fleet]:
    """Both at work. A test breaks what it likes; mending is done here."""
    eventually(in_fleet.settled, within_s=20.0)
    yield in_fleet
    if not daemons.runs(in_fleet.driver, STORE, ETCD):
        in_fleet.start_store()
    in_fleet.both(WorkingPop.mend)


def kill_gateways(pop: WorkingPop) -> None:
    for node in (pop.first, pop.second):
        pop.send(node, "charon", signal.SIGKILL)


def held(pop: WorkingPop) -> bool:
    """Whether the PoP wants to leave and may not: announced at the lowest preference, for a reason of the guard."""
    service = pop.service()
    return service.get("announce") in ("depreferred", "graceful-shutdown") and service["reason"] in HOLDS


def test_two_pops_lose_all_gateways_at_the_same_moment_and_one_goes_on_announcing(fleet: Fleet) -> None:
    with Lookout(fleet) as lookout:
        fleet.both(kill_gateways)
        eventually(lambda: all(pop.service().get("healthy") == 0 for pop in fleet.pops.values()))
        eventually(lambda: len(fleet.announcing()) == 1 or all(held(pop) for pop in fleet.pops.values()))
        (left, *_) = (fleet.pops[name] for name in sorted(fleet.announcing()))
        eventually(lambda: held(left))
        # Nothing that time alone brings may change that.
        until = time.monotonic() + LEASE_S
        eventually(lambda: time.monotonic() > until)
        assert held(left)
    assert lookout.looks > 100
    assert lookout.fewest >= 1


def test_the_store_stops_and_then_all_probes_time_out_and_nobody_leaves(fleet: Fleet) -> None:
    fleet.stop_store()
    with Lookout(fleet) as lookout:
        fleet.both(lambda pop: [pop.send(node, "charon", signal.SIGSTOP) for node in (pop.first, pop.second)])
        eventually(lambda: all(held(pop) for pop in fleet.pops.values()), within_s=20.0)
        assert {pop.reason() for pop in fleet.pops.values()} == {"fleet-unreachable"}
        # The store is back, with what was true before. The same probe fails everywhere.
        fleet.start_store()
        eventually(lambda: {pop.reason() for pop in fleet.pops.values()} <= SHARED, within_s=20.0)
    assert lookout.fewest == 2


def test_who_finds_the_store_again_later_than_others_is_not_believed_before(fleet: Fleet) -> None:
    fleet.stop_store()
    with Lookout(fleet) as lookout:
        fleet.both(lambda pop: [pop.send(node, "charon", signal.SIGSTOP) for node in (pop.first, pop.second)])
        eventually(lambda: all(held(pop) for pop in fleet.pops.values()), within_s=20.0)
        with fleet.out_of_reach_of(fleet.two):
            fleet.start_store()
            # The store shows the other as it was before, good and on duty, until its lease ends.
            eventually(lambda: fleet.stance(fleet.one, fleet.two) is None, within_s=20.0)
            assert held(fleet.one), fleet.one.account()
        eventually(lambda: {pop.reason() for pop in fleet.pops.values()} <= SHARED, within_s=20.0)
    assert lookout.fewest == 2


def test_an_agent_is_killed_between_its_permit_and_its_withdraw(fleet: Fleet) -> None:
    one, two = fleet.one, fleet.two
    words = ("--drain", "10m", "--reason", "test", "--yes", "--no-wait")
    assert one.cli("withdraw", "vpn", *words).returncode == 0
    eventually(lambda: fleet.stance(two, one) == "permit")
    one.agent(signal.SIGKILL)
    kill_gateways(two)
    eventually(lambda: held(two))
    # Its routes go with the lease of its relay, its record with that in the store; the other stays through both.
    one.until_gone(within_s=LEASE_S + 2.0)
    eventually(lambda: fleet.stance(two, one) is None)
    assert held(two)
    assert two.announced()
    # The order of before the crash stands: the PoP does not come back from its drain.
    one.start_agent()
    eventually(lambda: fleet.stance(two, one) is not None, within_s=20.0)
    eventually(lambda: one.service().get("healthy") == 2)
    assert held(two)
    assert (one.announced(), two.announced()) == (False, True)
    assert one.cli("maintenance", "cancel", "vpn", "--reason", "test").returncode == 0
    # Somebody else serves again, and only then does the other leave.
    two.until_gone(within_s=20.0)
    assert one.announced()


def test_two_operators_withdraw_both_pops_at_once_and_one_of_them_is_told_no(fleet: Fleet) -> None:
    codes: dict[str, int] = {}
    said: dict[str, str] = {}

    def withdraw(pop: WorkingPop) -> None:
        done = pop.cli("withdraw", "vpn", "--reason", "test", "--yes", "--timeout", "3s")
        codes[pop.name], said[pop.name] = done.returncode, done.stdout + done.stderr

    with Lookout(fleet) as lookout:
        fleet.both(withdraw)
        assert sorted(codes.values()) == [0, 75], said
        (stays,) = (fleet.pops[name] for name, code in codes.items() if code == 75)
        assert "fleet-floor" in said[stays.name]
        assert fleet.announcing() == {stays.name}
    assert lookout.fewest == 1
    # Whoever was told no, and knows better, says so.
    forced = stays.cli("withdraw", "vpn", "--reason", "test", "--yes", "--force")
    assert (forced.returncode, "overridden by force" in forced.stderr) == (0, True), forced.stderr
    assert fleet.announcing() == set()


def test_of_two_opposite_orders_at_once_both_are_answered_and_the_later_one_stands(
    fleet: Fleet,
) -> None:
    pop = fleet.one
    orders = (("withdraw", "vpn", "--yes"), ("announce", "vpn"))
    for _ in range(3):
        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(lambda words: pop.cli(*words, "--reason", "test", "--no-wait"), orders))
        assert [one.returncode for one in done] == [0, 0], [one.stderr for one in done]
        entries = [json.loads(line) for line in pop.read("/var/lib/popctl/audit.jsonl").splitlines()]
        ordered = bool(pop.status()["intents"])
        assert ordered == (entries[-1]["action"] == "place")
        assert ordered == bool(entries[-1]["after"])
    assert pop.cli("audit", "verify", "/var/lib/popctl/audit.jsonl").returncode == 0
