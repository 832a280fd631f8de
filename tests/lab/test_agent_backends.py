"""From a VPN daemon to the upstream's table: what a backend does, and what the PoP announces then."""

from __future__ import annotations

import signal

import pytest

from lab import daemons
from lab.scene import PREFIX
from tests.eventually import eventually
from tests.lab.working_pop import PREFIX_6, WorkingPop

pytestmark = pytest.mark.lab

IMPOSTER = "/opt/popctl/tests/lab/imposter.py"
ADDRESSES = ("10.1.1.2", "10.1.2.2")
IKE_PROBES = ("ike2-500", "ike2-4500", "ike1-500")


def lose_second(pop: WorkingPop) -> None:
    """Leave the service to the first backend alone."""
    pop.send(pop.second, "charon", signal.SIGKILL)
    eventually(lambda: pop.backend(pop.second).get("verdict") == "down")
    assert pop.announced()


def test_one_dead_backend_of_two_changes_no_route(pop1: WorkingPop) -> None:
    before = pop1.updates()
    lose_second(pop1)
    assert pop1.service()["healthy"] == 1
    assert pop1.updates() == before


@pytest.mark.parametrize("daemon", ["charon", "xl2tpd"])
def test_the_last_backend_loses_a_daemon_and_the_client_lands_in_the_other_pop(pop1: WorkingPop, daemon: str) -> None:
    assert pop1.lands() == "pop1"
    lose_second(pop1)
    daemons.send(pop1.driver, pop1.first, daemon, signal.SIGKILL)
    pop1.until_gone(within_s=2.0)
    assert pop1.reason() == "too-few-backends", pop1.account()
    eventually(lambda: pop1.lands() == "pop2", within_s=3.0)


def test_both_families_come_back_together_with_the_daemon(pop1: WorkingPop) -> None:
    lose_second(pop1)
    daemons.send(pop1.driver, pop1.first, "charon", signal.SIGKILL)
    pop1.until_gone()
    pop1.start_charon(pop1.first)
    pop1.until_announced()
    assert pop1.announced(PREFIX)
    assert pop1.announced(PREFIX_6)


def test_a_hung_daemon_counts_as_dead(pop1: WorkingPop) -> None:
    lose_second(pop1)
    pop1.send(pop1.first, "charon", signal.SIGSTOP)
    pop1.until_gone(within_s=5.0)
    assert pop1.backend(pop1.first)["reason"] == "timed-out"


def test_a_daemon_without_workers_is_not_announced_although_its_socket_is_open(pop1: WorkingPop) -> None:
    lose_second(pop1)
    pop1.send(pop1.first, "charon", signal.SIGKILL)
    pop1.until_gone()
    # kernel-libipsec alone occupies eight threads for ever: nobody is left to answer.
    shipped = pop1.driver.exec(pop1.first, ["cat", "/etc/strongswan.conf"]).stdout
    few = shipped.replace("threads = 16", "threads = 8")
    assert few != shipped
    pop1.driver.exec(pop1.first, ["tee", "/run/few.conf"], stdin=few)
    daemons.start(
        pop1.driver, pop1.first, "charon-without-workers", ["charon-systemd"], env={"STRONGSWAN_CONF": "/run/few.conf"}
    )

    def silent() -> bool:
        probes = [pop1.probe(pop1.first, name) for name in IKE_PROBES]
        return all(one["last_reason"] == "timed-out" and one["streak"] > 3 for one in probes)

    pop1.never_announced_while(silent)
    bound = pop1.driver.exec(pop1.first, ["ss", "-lunH", "sport = :500"]).stdout
    assert bound, "the socket must be open, else this test shows nothing"


@pytest.mark.parametrize(
    ("mode", "reasons"),
    [
        ("noise", {"garbage"}),
        ("truncated", {"garbage"}),
        ("oversized", {"garbage"}),
        ("replayed", {"garbage"}),
        ("of-another", {"garbage"}),
    ],
)
def test_a_backend_that_answers_wrongly_is_never_announced(pop1: WorkingPop, mode: str, reasons: set[str]) -> None:
    pop1.send(pop1.first, "charon", signal.SIGKILL)
    daemons.start(pop1.driver, pop1.first, "imposter", ["python3", IMPOSTER, mode, *ADDRESSES])

    def judged() -> bool:
        probes = [pop1.probe(pop1.first, name) for name in IKE_PROBES]
        return all(one["last_reason"] in reasons and one["streak"] > 3 for one in probes)

    eventually(judged)
    assert pop1.backend(pop1.first)["verdict"] == "down"
    # The imposter asks the second backend. From here on, only wrong answers are left.
    pop1.send(pop1.second, "xl2tpd", signal.SIGKILL)
    pop1.until_gone()
    streak = pop1.probe(pop1.first, IKE_PROBES[0])["streak"]
    pop1.never_announced_while(lambda: pop1.probe(pop1.first, IKE_PROBES[0])["streak"] > streak + 3)


def test_a_backend_that_begins_to_answer_wrongly_is_withdrawn(pop1: WorkingPop) -> None:
    pop1.send(pop1.second, "xl2tpd", signal.SIGKILL)
    eventually(lambda: pop1.backend(pop1.second).get("verdict") == "down")
    assert pop1.announced()
    # In the place of charon, within one interval: no refusal is seen, only wrong answers.
    pop1.send(pop1.first, "charon", signal.SIGSTOP)
    pop1.driver.exec(pop1.first, ["sh", "-c", "kill -KILL $(cat /run/lab/charon.pid)"])
    daemons.start(pop1.driver, pop1.first, "imposter", ["python3", IMPOSTER, "replayed", *ADDRESSES])
    pop1.until_gone()


def test_order_drains_a_backend_and_refuses_to_drain_the_last_one(pop1: WorkingPop) -> None:
    assert pop1.cli("drain", pop1.first, "--reason", "test").returncode == 0
    refused = pop1.cli("drain", pop1.second, "--reason", "test")
    assert refused.returncode == 4, refused.stderr
    assert "needs 1" in refused.stderr
    assert pop1.announced()
    assert pop1.cli("undrain", pop1.first, "--reason", "test").returncode == 0
    assert not pop1.status()["intents"]
