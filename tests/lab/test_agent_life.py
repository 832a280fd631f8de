"""How the agent ends, comes back and remembers: what the upstream hears of each."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

import pytest

from lab import daemons, edge
from tests.eventually import eventually
from tests.lab.working_pop import JOURNAL, LEASE_S, QUICK, STALE_AFTER_S, STATE, WorkingPop, make_quick

pytestmark = pytest.mark.lab

CLOCK_SHIFT = "/run/popctl/clock-shift"
DAY_S = 86400
_SHIFTED_AGENT = f"""\
import runpy, sys, time
from pathlib import Path
wall = time.time
time.time = lambda: wall() + float(Path("{CLOCK_SHIFT}").read_text())
sys.argv = ["popctl.agent", "{edge.CONFIG}"]
runpy.run_module("popctl.agent", run_name="__main__", alter_sys=True)
"""


def until_started_anew(pop: WorkingPop, before_s: float) -> None:
    """Wait for a younger agent that has decided."""
    eventually(lambda: pop.status().get("uptime_s", before_s) < before_s and pop.reason() == "healthy")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_routes_of_an_agent_that_is_gone_go_with_its_lease(pop1: WorkingPop, number: signal.Signals) -> None:
    before = pop1.updates()
    pop1.agent(number)
    pop1.until_gone(within_s=LEASE_S + 1.0)
    assert pop1.updates() == before + 2, "one withdraw for each family"
    eventually(lambda: pop1.lands() == "pop2", within_s=3.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_agent_that_hung_while_the_backends_died_announces_nothing_when_it_goes_on(
    pop1: WorkingPop, number: signal.Signals
) -> None:
    pop1.agent(signal.SIGSTOP)
    stale_at = time.monotonic() + STALE_AFTER_S
    pop1.until_gone()
    for node in (pop1.first, pop1.second):
        pop1.send(node, "charon", number)
    before = pop1.updates()
    eventually(lambda: time.monotonic() > stale_at)
    pop1.agent(signal.SIGCONT)
    eventually(lambda: pop1.status().get("connected") and pop1.reason() == "too-few-backends")
    assert pop1.updates() == before


def test_reload_with_a_changed_configuration_is_not_heard_upstream(pop1: WorkingPop) -> None:
    before, pid, digest = pop1.updates(), pop1.pid(edge.AGENT), pop1.status()["config_digest"]
    pop1.write(QUICK, pop1.read(QUICK).replace("location: lab", "location: elsewhere"))
    pop1.agent(signal.SIGHUP)
    eventually(lambda: pop1.status().get("config_digest") not in (None, digest))
    eventually(lambda: pop1.reason() == "healthy")
    assert pop1.pid(edge.AGENT) == pid
    assert pop1.status()["pop"]["location"] == "elsewhere"
    assert pop1.updates() == before


def test_reload_with_a_broken_configuration_is_refused_and_the_old_one_stays(pop1: WorkingPop) -> None:
    before, digest, uptime_s = pop1.updates(), pop1.status()["config_digest"], pop1.status()["uptime_s"]
    pop1.write(QUICK, pop1.read(QUICK) + "nonsense: true\n")
    pop1.agent(signal.SIGHUP)
    eventually(lambda: "new configuration refused" in daemons.log(pop1.driver, pop1.name, edge.AGENT))
    status = pop1.status()
    assert (status["config_digest"], status["uptime_s"] > uptime_s) == (digest, True)
    assert pop1.announced()
    assert pop1.updates() == before


def test_reloads_that_overtake_each_other_lose_neither_the_agent_nor_a_route(pop1: WorkingPop) -> None:
    before, pid, started_s = pop1.updates(), pop1.pid(edge.AGENT), pop1.status()["uptime_s"]
    for _ in range(8):
        # Every exec in the node takes some time: these fall into all moments of the start.
        pop1.agent(signal.SIGHUP)
    until_started_anew(pop1, started_s)
    pop1.until_settled()
    assert pop1.pid(edge.AGENT) == pid
    assert pop1.updates() == before


def test_told_to_stop_in_the_middle_of_a_reload_the_agent_stops(pop1: WorkingPop) -> None:
    with pop1.agent_in_sight() as process:
        pop1.agent(signal.SIGHUP)
        pop1.agent(signal.SIGTERM)
        assert process.wait(10.0) == 0
        assert not pop1.announced()


def test_an_agent_that_is_killed_and_started_within_its_lease_is_not_missed(pop1: WorkingPop) -> None:
    before = pop1.updates()
    pop1.agent(signal.SIGKILL)
    pop1.start_agent()
    pop1.until_settled()
    # The lease of the dead one would have ended by now.
    eventually(lambda: pop1.status().get("uptime_s", 0.0) > LEASE_S)
    assert pop1.updates() == before


def test_told_to_stop_the_agent_withdraws_and_ends_with_0(pop1: WorkingPop) -> None:
    with pop1.agent_in_sight() as process:
        pop1.agent(signal.SIGTERM)
        assert process.wait(10.0) == 0
        assert not pop1.announced()


def test_told_to_stop_while_exabgp_hangs_the_agent_ends_with_75(pop1: WorkingPop) -> None:
    with pop1.agent_in_sight() as process:
        pop1.exabgp(signal.SIGSTOP)
        pop1.agent(signal.SIGTERM)
        assert process.wait(20.0) == 75
        pop1.until_gone(within_s=8.0)


def test_an_order_survives_the_agent(pop1: WorkingPop) -> None:
    assert pop1.cli("withdraw", "vpn", "--reason", "test").returncode == 0
    pop1.agent(signal.SIGKILL)
    pop1.start_agent()
    pop1.never_announced_while(lambda: pop1.service().get("healthy") == 2 and pop1.reason() == "operator-withdraw")


def test_an_order_survives_the_host_and_so_does_its_end(pop1: WorkingPop) -> None:
    assert pop1.cli("withdraw", "vpn", "--reason", "test", "--for", "1h", "--yes").returncode == 0
    disk = pop1.read(STATE)
    pop1.driver.stop(pop1.name)
    pop1.driver.start(pop1.name)
    # The lab loses a node's file system; a host does not.
    pop1.write(STATE, disk)
    make_quick(pop1.driver, pop1.name)
    edge.start(pop1.driver, pop1.name)
    pop1.never_announced_while(lambda: pop1.service().get("healthy") == 2 and pop1.reason() == "operator-withdraw")
    eventually(lambda: all(one["established"] for one in pop1.status()["sessions"]))
    (order,) = pop1.status()["intents"]
    assert (order["reason"], order["stage"]) == ("test", "withdrawn")
    assert 3500.0 < order["expires_in_s"] < 3600.0


def test_with_a_corrupt_state_file_the_pop_stays_out_until_it_is_reset(pop1: WorkingPop) -> None:
    assert pop1.cli("withdraw", "vpn", "--reason", "test").returncode == 0
    pop1.agent(signal.SIGKILL)
    pop1.write(STATE, pop1.read(STATE).replace("withdraw", "drain"))
    pop1.start_agent()
    pop1.never_announced_while(lambda: pop1.service().get("healthy") == 2 and pop1.reason() == "state-file-corrupt")
    assert pop1.status()["state_corrupt"] is True
    refused = pop1.cli("announce", "vpn", "--reason", "test", "--no-wait")
    assert refused.returncode == 74, refused.stderr
    assert pop1.cli("state", "reset", "--reason", "test").returncode == 0
    pop1.until_announced()


@contextmanager
def state_on_a_small_disk(pop: WorkingPop) -> Iterator[str]:
    """Let the agent keep its state on a file system of its own, of 256 KiB. Yields where that is mounted."""
    directory = str(PurePosixPath(STATE).parent)
    pop.agent(signal.SIGKILL)
    mounted = ["mount", "-t", "tmpfs", "-o", "size=256k", "popctl-test", directory]
    assert pop.driver.exec(pop.name, mounted).returncode == 0
    try:
        pop.start_agent()
        pop.until_settled()
        yield directory
    finally:
        pop.agent(signal.SIGKILL)
        # Lazily: the killed agent may still be on its way out.
        assert pop.driver.exec(pop.name, ["umount", "-l", directory]).returncode == 0


def test_with_a_full_disk_orders_are_refused_and_nothing_changes_until_there_is_room(pop1: WorkingPop) -> None:
    withdraw = ("withdraw", "vpn", "--reason", "test", "--yes")
    with state_on_a_small_disk(pop1) as directory:
        filler = f"{directory}/filler"
        # Full to the last byte; whatever the journal would still write finds no room either.
        pop1.driver.exec(pop1.name, ["dd", "if=/dev/zero", f"of={filler}", "bs=4k"])
        before = pop1.updates()
        refused = pop1.cli(*withdraw)
        assert (refused.returncode, "not-written" in pop1.cli(*withdraw, "--json").stdout) == (74, True), refused.stderr
        assert "No space left on device" in refused.stderr
        assert not pop1.status()["intents"]
        assert pop1.announced()
        assert pop1.updates() == before
        assert pop1.driver.exec(pop1.name, ["rm", filler]).returncode == 0
        assert pop1.cli(*withdraw).returncode == 0
        pop1.until_gone()


def test_with_a_read_only_disk_orders_are_refused_and_those_that_stand_go_on(pop1: WorkingPop) -> None:
    with state_on_a_small_disk(pop1) as directory:
        assert pop1.cli("withdraw", "vpn", "--reason", "test", "--yes").returncode == 0
        pop1.agent(signal.SIGKILL)
        eventually(lambda: pop1.driver.exec(pop1.name, ["mount", "-o", "remount,ro", directory]).returncode == 0)
        pop1.start_agent()
        pop1.never_announced_while(lambda: pop1.service().get("healthy") == 2 and pop1.reason() == "operator-withdraw")
        refused = pop1.cli("announce", "vpn", "--reason", "test")
        assert refused.returncode == 74, refused.stderr
        assert "Read-only file system" in refused.stderr
        assert [order["target"] for order in pop1.status()["intents"]] == ["vpn"]
        assert not pop1.announced()


def test_a_wall_clock_that_jumps_moves_no_route_and_no_deadline(pop1: WorkingPop) -> None:
    before = pop1.updates()
    pop1.write(CLOCK_SHIFT, "0")
    pop1.agent(signal.SIGKILL)
    argv = ["env", "PYTHONPATH=/opt/popctl", edge.PYTHON, "-c", _SHIFTED_AGENT]
    daemons.start(pop1.driver, pop1.name, edge.AGENT, argv)
    pop1.until_settled()
    for shift_s in (DAY_S, -DAY_S):
        pop1.write(CLOCK_SHIFT, str(shift_s))
        uptime_s = pop1.status()["uptime_s"]
        eventually(lambda uptime_s=uptime_s: pop1.status()["uptime_s"] > uptime_s + 1.0)
        pop1.until_settled()
    assert pop1.updates() == before
    # A day forward in the middle of a drain does not end it; the drain ends when its time is over.
    assert pop1.cli("withdraw", "vpn", "--reason", "test", "--drain", "2s", "--no-wait").returncode == 0
    pop1.write(CLOCK_SHIFT, str(DAY_S))
    eventually(lambda: "(65535,0)" in pop1.scene.communities(pop1.name))
    left_s = pop1.status()["intents"][0]["drain_left_s"]
    assert 0.0 < left_s < 2.0
    assert pop1.announced()
    pop1.until_gone(within_s=3.0)
    # The agent stays for the next test, whose clock is right.
    pop1.write(CLOCK_SHIFT, "0")


def test_every_journal_of_the_lab_is_decided_again_identically(pop1: WorkingPop) -> None:
    found = pop1.driver.exec(pop1.name, ["sh", "-c", f"ls {JOURNAL}*"]).stdout.split()
    assert found
    for journal in found:
        replayed = pop1.run("popctl.agent.replay", journal)
        assert replayed.returncode == 0, f"{journal}: {replayed.stdout[-2000:]}{replayed.stderr}"
        assert " 0 different" in replayed.stderr
