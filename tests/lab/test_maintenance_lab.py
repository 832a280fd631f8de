"""Planned work on a PoP, from the order to the return, with a real client that is there all the time."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab.tunnel import Tunnel
from tests.eventually import eventually
from tests.lab.metered import metered, watchful
from tests.lab.working_pop import WorkingPop

pytestmark = pytest.mark.lab


@pytest.fixture
def in_use(pop1: WorkingPop) -> Iterator[WorkingPop]:
    """PoP 1 with meters, and a client whose tunnel follows the route."""
    gateways = tuple(f"{pop}-b{number}" for pop in ("pop1", "pop2") for number in (1, 2))
    with watchful(pop1.driver, gateways), metered(pop1):
        yield pop1


def work(pop: WorkingPop) -> dict[str, Any]:
    """Return what the agent says of the one order that stands; empty when none does."""
    return next(iter(pop.status().get("intents", ())), {})


def sessions(pop: WorkingPop) -> float | None:
    """Return how many sessions an order would concern, as its preview says; None: unknown."""
    (service,) = (pop.scene.ask(pop.name, "/v1/preview/withdraw/vpn") or {})["services"]
    return service["sessions"]


def holder(pop: WorkingPop, tunnel: Tunnel) -> str | None:
    """Return the PoP whose gateway holds the client's tunnel."""
    return pop.scene.pop_of(tunnel.label())


def test_planned_work_from_the_order_to_the_return_of_the_client(in_use: WorkingPop) -> None:
    pop = in_use
    with Tunnel(pop.driver) as tunnel:
        assert holder(pop, tunnel) == pop.name
        eventually(lambda: sessions(pop) == 1.0)
        # The order. It says what will follow, and the client is told nothing: its network turns away from the PoP.
        words = ("--drain", "90s", "--for", "1h", "--reason", "new kernel", "--yes", "--no-wait")
        ordered = pop.cli("withdraw", "vpn", *words)
        assert ordered.returncode == 0, ordered.stderr
        assert "vpn: normal now, 1 sessions; no fleet: nobody else is asked" in ordered.stderr
        eventually(lambda: "(65535,0)" in pop.scene.communities(pop.name))
        # The client's gateway has not noticed yet that the client is gone, and is waited for.
        eventually(lambda: (work(pop).get("stage"), work(pop).get("sessions_left")) == ("waiting", 1.0))
        listed = pop.cli("maintenance", "list").stdout
        assert "vpn: " in listed
        assert "; by root; new kernel; sessions left: " in listed
        eventually(lambda: holder(pop, tunnel) == "pop2", within_s=20.0)
        # When the last session has gone the withdraw does not wait for the rest of the drain.
        eventually(lambda: work(pop).get("stage") == "withdrawn", within_s=20.0)
        assert work(pop)["drain_left_s"] > 0.0
        pop.until_gone()
        assert (work(pop)["owner"], work(pop)["reason"]) == ("root", "new kernel")
        # The work: the PoP is silent while its gateways are taken down and come back.
        before, pings = pop.updates(), tunnel.received
        for node in (pop.first, pop.second):
            pop.send(node, "charon", signal.SIGKILL)
            pop.start_charon(node)
        eventually(lambda: pop.service().get("healthy") == 2, within_s=20.0)
        assert pop.updates() == before
        eventually(lambda: tunnel.received > pings)
        # The end: back through warm-up, and the client with it.
        assert pop.cli("announce", "vpn", "--reason", "done").returncode == 0
        pop.until_announced()
        eventually(lambda: holder(pop, tunnel) == pop.name, within_s=30.0)
        assert not work(pop)
    verified = pop.cli("audit", "verify", "/var/lib/popctl/audit.jsonl")
    assert verified.returncode == 0, verified.stdout + verified.stderr
