"""The balancer as part of a running PoP: real clients, real daemons, real kernel rules."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import Callable

import pytest

from lab import daemons
from lab.scene import LANDING, VIP
from lab.tunnel import Tunnel
from tests.eventually import eventually
from tests.lab.working_pop import QUICK, WorkingPop

pytestmark = pytest.mark.lab

CROWD = 64


def crowd(pop: WorkingPop, *, seed: str = "") -> list[str]:
    """Return which backend answers each of many clients; the same seed asks the same questions."""
    argv = ["python3", LANDING, VIP, "--crowd", "--source", "203.0.113.128", "--count", str(CROWD), "--seed", seed]
    done = pop.driver.exec("client", [*argv, "--interval-s", "0", "--timeout-s", "0.3"])
    landed = [json.loads(line)["landed"] for line in done.stdout.splitlines()]
    return [pop.scene.labels.get(label or "", "nobody") for label in landed]


def balancer(pop: WorkingPop) -> dict[str, object]:
    """Return what the agent says of its balancer; empty when it does not answer."""
    pop.scene.look_again()
    return pop.status().get("balancer") or {}


def nft(pop: WorkingPop, *words: str) -> str:
    done = pop.driver.exec(pop.name, ["nft", *words])
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(tunnel: Tunnel, during: Callable[[], object], *, pings: int = 20) -> None:
    """Do something while the tunnel is in use: not one packet may be missing."""
    before = tunnel.received
    during()
    eventually(lambda: tunnel.received >= before + pings)
    assert tunnel.lost == 0


@pytest.fixture
def in_force(pop1: WorkingPop) -> WorkingPop:
    eventually(lambda: balancer(pop1).get("in_force"))
    return pop1


def test_clients_are_spread_and_a_dead_backend_moves_only_its_own(in_force: WorkingPop) -> None:
    before = crowd(in_force, seed="spread")
    assert min(Counter(before).values()) >= CROWD / 5
    assert set(before) == {in_force.first, in_force.second}
    in_force.send(in_force.first, "charon", signal.SIGKILL)
    eventually(lambda: set(crowd(in_force)) == {in_force.second})
    in_force.start_charon(in_force.first)
    eventually(lambda: crowd(in_force, seed="spread") == before, within_s=20)


def test_a_drain_takes_new_clients_away_and_the_tunnel_that_stays_loses_no_packet(in_force: WorkingPop) -> None:
    before = crowd(in_force, seed="drain")
    with Tunnel(in_force.driver) as tunnel:
        holder = in_force.scene.labels[tunnel.label() or ""]
        other = next(name for name in (in_force.first, in_force.second) if name != holder)
        kept(tunnel, lambda: in_force.cli("drain", holder, "--for", "10m", "--reason", "test"))
        assert set(crowd(in_force, seed="drain")) == {other}
        eventually(lambda: (in_force.backend(holder).get("drain") or {}).get("sas_left") == 1)
        kept(tunnel, lambda: in_force.cli("undrain", holder, "--reason", "test"))
    eventually(lambda: crowd(in_force, seed="drain") == before)


def test_at_the_deadline_a_cut_ends_the_tunnel_and_the_client_comes_back_elsewhere(in_force: WorkingPop) -> None:
    with Tunnel(in_force.driver) as tunnel:
        holder = tunnel.label()
        words = ("--for", "2s", "--then", "cut", "--reason", "test")
        assert in_force.cli("drain", in_force.scene.labels[holder or ""], *words).returncode == 0
        eventually(lambda: tunnel.label() is None)
    with Tunnel(in_force.driver) as again:
        assert again.label() not in (holder, None)


def test_an_agent_that_is_killed_and_started_changes_nothing_in_the_kernel(in_force: WorkingPop) -> None:
    with Tunnel(in_force.driver) as tunnel:
        holder = in_force.scene.labels[tunnel.label() or ""]
        assert in_force.cli("drain", holder, "--reason", "test").returncode == 0
        before = nft(in_force, "-s", "list", "table", "inet", "popctl")

        def restart() -> None:
            in_force.agent(signal.SIGKILL)
            in_force.start_agent()
            eventually(lambda: balancer(in_force).get("in_force"), within_s=15)

        kept(tunnel, restart)
    assert balancer(in_force)["writes"] == 0
    after = nft(in_force, "-s", "list", "table", "inet", "popctl")
    assert _without_memory(after) == _without_memory(before)
    assert in_force.backend(holder)["balancer"]["place"] == "draining"


def test_rules_that_somebody_flushed_come_back_and_the_tunnel_goes_on(in_force: WorkingPop) -> None:
    repairs = balancer(in_force)["drift_repairs"]
    assert isinstance(repairs, int)
    nft(in_force, "delete", "table", "inet", "popctl")
    eventually(lambda: balancer(in_force).get("drift_repairs") == repairs + 1)
    with Tunnel(in_force.driver) as tunnel:
        eventually(lambda: tunnel.received > 0)
        nft(in_force, "flush", "chain", "inet", "popctl", "vpn.v4.udp")
        before = tunnel.received
        eventually(lambda: tunnel.received >= before + 20)
        assert tunnel.lost <= 10
    eventually(lambda: balancer(in_force).get("drift_repairs") == repairs + 2)


def test_without_its_section_the_balancer_leaves_the_host_and_with_it_comes_back(in_force: WorkingPop) -> None:
    nft(in_force, "add", "table", "inet", "foreign")
    try:
        before = in_force.read(QUICK)
        bare = re.sub(r"^    balancer:\n(?:      .*\n)+", "", before, flags=re.MULTILINE)
        assert bare != before
        in_force.write(QUICK, bare)
        in_force.agent(signal.SIGHUP)
        eventually(lambda: nft(in_force, "list", "tables").split("\n") == ["table inet foreign", ""])
        rules = [in_force.driver.exec(in_force.name, ["ip", family, "rule"]).stdout for family in ("-4", "-6")]
        assert not any("5100:" in text for text in rules)
        eventually(in_force.announced)
        in_force.write(QUICK, before)
        in_force.agent(signal.SIGHUP)
        eventually(lambda: balancer(in_force).get("in_force"), within_s=15)
        eventually(lambda: set(crowd(in_force)) == {in_force.first, in_force.second})
    finally:
        nft(in_force, "delete", "table", "inet", "foreign")


def test_stopping_the_agent_withdraws_first_and_leaves_the_rules(in_force: WorkingPop) -> None:
    in_force.agent(signal.SIGTERM)
    in_force.until_gone()
    eventually(lambda: not daemons.runs(in_force.driver, in_force.name, "agent"))
    assert "0x00000002" in nft(in_force, "list", "set", "inet", "popctl", "alive")


def test_metrics_count_packets_by_backend_and_reason(in_force: WorkingPop) -> None:
    crowd(in_force)
    text = in_force.scene.metrics(in_force.name)
    counted = [line for line in text.splitlines() if line.startswith("popctl_balancer_packets_total")]
    fresh = {line.split('"')[1]: float(line.split()[-1]) for line in counted if 'reason="new-sa"' in line}
    assert fresh.keys() == {in_force.first, in_force.second}
    assert all(fresh.values())
    assert "popctl_balancer_in_force 1.0" in text


def _without_memory(listing: str) -> list[str]:
    """Drop what the packet path has learnt meanwhile."""
    return [line for line in listing.splitlines() if "expires" not in line]
