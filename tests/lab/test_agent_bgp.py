"""The agent, ExaBGP and the relay live and die apart; what the upstream holds is right in the end, and proven."""

from __future__ import annotations

import signal

import pytest

from lab import edge
from tests.eventually import eventually
from tests.lab.working_pop import WorkingPop

pytestmark = pytest.mark.lab


def relay_pid(pop: WorkingPop) -> str:
    """The pid of the relay inside the node: the one child of ExaBGP."""
    return pop.driver.exec(pop.name, ["pgrep", "-P", pop.pid(edge.EXABGP)]).stdout.strip()


def test_exabgp_that_was_killed_and_started_announces_again_without_an_operator(pop1: WorkingPop) -> None:
    agent = pop1.pid(edge.AGENT)
    pop1.exabgp(signal.SIGKILL)
    pop1.until_gone(within_s=2.0)
    eventually(lambda: not pop1.status()["connected"])
    pop1.start_exabgp()
    pop1.until_announced()
    assert pop1.pid(edge.AGENT) == agent


def test_the_relay_is_killed_and_no_router_hears_of_it(pop1: WorkingPop) -> None:
    before, relay = pop1.updates(), relay_pid(pop1)
    pop1.driver.exec(pop1.name, ["kill", "-KILL", relay])
    eventually(lambda: relay_pid(pop1) not in ("", relay))
    eventually(lambda: pop1.status()["connected"] and pop1.status()["inherited"])
    pop1.until_settled()
    assert pop1.updates() == before


def test_an_agent_that_finds_no_exabgp_waits_and_announces_when_it_comes(pop1: WorkingPop) -> None:
    pop1.agent(signal.SIGKILL)
    pop1.exabgp(signal.SIGKILL)
    pop1.start_agent()
    eventually(lambda: pop1.backend(pop1.first).get("verdict") == "up")
    assert pop1.status()["connected"] is False
    assert "does ExaBGP run?" in pop1.status()["exabgp_problem"]
    assert pop1.reason() == "not-yet-known"
    assert not pop1.announced()
    pop1.start_exabgp()
    pop1.until_announced()


def test_withdraw_says_done_when_the_upstream_has_heard_it(pop1: WorkingPop) -> None:
    done = pop1.cli("withdraw", "vpn", "--reason", "test")
    # No waiting here: what the command says must be so already.
    assert not pop1.announced()
    assert done.returncode == 0, done.stderr
    assert "proven withdrawn" in done.stdout
    announced = pop1.cli("announce", "vpn", "--reason", "test")
    assert pop1.announced()
    assert announced.returncode == 0, announced.stderr


def test_withdraw_says_unproven_when_exabgp_hangs_and_the_routes_go_all_the_same(pop1: WorkingPop) -> None:
    pop1.exabgp(signal.SIGSTOP)
    done = pop1.cli("withdraw", "vpn", "--reason", "test", "--timeout", "1s")
    assert pop1.announced()
    assert done.returncode == 75, done.stdout + done.stderr
    assert "pending" in done.stderr
    # Nobody continues ExaBGP: the agent has it ended, which closes the session.
    pop1.until_gone(within_s=8.0)


def test_an_order_that_waits_for_a_drain_shows_graceful_shutdown_first(pop1: WorkingPop) -> None:
    assert pop1.cli("withdraw", "vpn", "--reason", "test", "--drain", "1s", "--no-wait").returncode == 0
    eventually(lambda: "(65535,0)" in pop1.scene.communities(pop1.name))
    pop1.until_gone()
    assert pop1.reason() == "operator-withdraw"


def test_health_does_not_undo_an_order(pop1: WorkingPop) -> None:
    assert pop1.cli("withdraw", "vpn", "--reason", "test").returncode == 0
    for node in (pop1.first, pop1.second):
        pop1.send(node, "charon", signal.SIGKILL)
        eventually(lambda node=node: pop1.backend(node).get("verdict") == "down")
        pop1.start_charon(node)

    def healthy_and_decided() -> bool:
        return pop1.service().get("healthy") == 2 and pop1.reason() == "operator-withdraw"

    pop1.never_announced_while(healthy_and_decided)
