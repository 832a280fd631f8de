"""Runs inside the guest: real L2TP/IPsec sessions with kernel ESP through the balancer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from popctl.model.missteer import Split
from tests.balancers import draining
from tests.eventually import eventually
from tests.kernel.guest_hand import FORGETFUL
from tests.kernel.guest_ping import Pings
from tests.kernel.guest_pop import CLIENTS, HOME, OTHER, Pop
from tests.peers.lb_net import Net

CHILD = {"child": "l2tp"}
IKE = {"ike": "l2tp"}


@pytest.fixture
def pop() -> Iterator[Pop]:
    """Provide a PoP and its clients, nobody signed on."""
    net = Net()
    with ExitStack() as stack:
        stack.callback(net.close)
        yield Pop(net, stack)


def quick_mode_of_clients(pop: Pop) -> None:
    for client in pop.clients.values():
        pop.rekey(client, CHILD)


def quick_mode_of_the_server(pop: Pop) -> None:
    pop.rekey(pop.backends[HOME], CHILD)


def reauthentication_of_clients(pop: Pop) -> None:
    """A main mode with a new cookie, and the quick mode after it: only this shows where the new SA is."""
    for client in pop.clients.values():
        pop.rekey(client, IKE)
    quick_mode_of_clients(pop)


def reauthentication_of_the_server(pop: Pop) -> None:
    """The same from the server: from now on its label is in the initiator's cookie."""
    pop.rekey(pop.backends[HOME], IKE)
    quick_mode_of_the_server(pop)


def assert_no_loss(pop: Pop, pings: dict[str, Pings], event: str) -> None:
    """No ping is missing, nobody refused a packet, and everybody is where he was."""
    lost = {c: each.lost for c, each in pings.items() if each.lost}
    assert (lost, pop.refusals()) == ({}, {}), event
    assert [pop.homes(c) for c in CLIENTS] == [{HOME}] * 2, event


def assert_all_arrived(pop: Pop) -> None:
    """Packet by packet since the clients signed on: what one end sent the other end got, through the balancer."""

    def equal() -> bool:
        seen, steered = pop.wire(), pop.steered()
        assert (seen["other got"], steered[OTHER], pop.dropped()) == (0, 0, {}), (seen, steered)
        assert seen["clients sent"] == steered[HOME] == seen["home got"], (seen, steered)
        return seen["home sent"] == seen["clients got"]

    eventually(equal)


def test_no_ping_is_lost_through_quick_modes_and_reauthentication_of_clients(pop: Pop) -> None:
    pop.sign_on()
    assert "espinudp" not in pop.net.ip("c1", "xfrm state")
    assert "espinudp" in pop.net.ip("c3", "xfrm state")
    for event in (quick_mode_of_clients, quick_mode_of_the_server, reauthentication_of_clients):
        with pop.pinging() as pings:
            event(pop)
        assert_no_loss(pop, pings, event.__name__)
    assert_all_arrived(pop)


def test_no_ping_is_lost_when_the_server_reauthenticates(pop: Pop) -> None:
    """The role swap. A session of its own: strongSwan 5.9 drops child SAs when re-authentications pile up."""
    pop.sign_on()
    with pop.pinging() as pings:
        reauthentication_of_the_server(pop)
    assert_no_loss(pop, pings, "reauthentication of the server")
    assert_all_arrived(pop)


def test_no_ping_is_lost_when_clients_reauthenticate_at_a_draining_backend_after_a_restart(pop: Pop) -> None:
    """The balancer's process is killed and started again, loses its memory, and learns it again from one packet."""
    pop.sign_on()
    with ExitStack() as stack:
        first = pop.hand(stack)
        assert first.stdout
        assert first.stdout.readline().startswith("True")
        learnt = pop.memory("by-address"), pop.memory("by-port")
        assert [len(entries) for entries in learnt] == [1, 1]
        first.kill()
        first.wait()
        second = pop.hand(stack)
        assert second.stdout
        assert second.stdout.readline() == "True 0 0\n"
        assert (pop.memory("by-address"), pop.memory("by-port")) == learnt
        pop.forget()
        assert (pop.memory("by-address"), pop.memory("by-port")) == (set(), set())
        for client in CLIENTS:
            pop.net.inside(client, "ping", "-q", "-c", "1", "-W", "3", pop.peer(client))
        assert (pop.memory("by-address"), pop.memory("by-port")) == learnt
        with pop.pinging() as pings:
            reauthentication_of_clients(pop)
        assert_no_loss(pop, pings, "reauthentication of clients")
        assert_all_arrived(pop)


def test_without_affinity_reauthentication_loses_the_client(pop: Pop) -> None:
    """The negative control: the new main mode goes elsewhere, the next quick mode makes ESP where no L2TP is.

    It is silent: nothing counts a mis-steer. The alarm sees it, and sees none before.
    """
    pop.install(draining(FORGETFUL, OTHER))
    assert {pop.dial(c) for c in CLIENTS} == {HOME}
    assert pop.look() == ()
    pop.install(draining(FORGETFUL, HOME))
    pop.rekey(pop.clients["c1"], IKE)
    eventually(lambda: OTHER in pop.homes("c1"))
    pop.rekey(pop.clients["c1"], CHILD)
    pings = ("ping", "-q", "-i", "0.02", "-c", "100", "-W", "1", pop.peer("c1"))
    assert " 0 received" in pop.net.inside("c1", *pings, check=False)
    assert pop.steered()[OTHER] > 100
    assert pop.dropped() == {}
    # No kernel and no daemon complains: the other backend decrypts, and has no L2TP tunnel to answer from ...
    assert pop.refusals() == {}
    # ... which is what the alarm goes by.
    assert pop.look() == ()
    assert pop.look() == (Split(address="192.0.2.2", port=500, before=HOME, now=OTHER),)
