"""Many random lives of a speaker against a tiny ExaBGP that has the traps of the real one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.bgp.control import Control
from popctl.bgp.flight import Announce, Order, Patience, Stop, Teardown, Withdraw
from popctl.model.instant import NEVER
from popctl.model.route import Prefix, Route, RouteKey, RouteTable, route_table
from popctl.wire import relay_api
from popctl.wire.errors import WireError
from popctl.wire.relay_api import Answer, Result, Watched, Welcome
from tests import pops
from tests.unit.bgp.small_exabgp import SmallExaBgp

ROUTER = pops.ROUTER
HOP = ip_address("192.0.2.10")
OTHER4 = ip_network("203.0.113.0/24")
PREFIXES: tuple[Prefix, ...] = (pops.VIP4, OTHER4)
POP = replace(pops.pop(), allowlist=replace(pops.pop().allowlist, prefixes=frozenset(PREFIXES)))


def table(**meds: int) -> RouteTable:
    """Return a table: `a` is the first prefix, `b` the second; the value is the MED."""
    names = dict(zip("ab", PREFIXES, strict=True))
    routes = [Route(prefix=names[name], next_hop=HOP, med=med) for name, med in meds.items()]
    return route_table((RouteKey(ROUTER, route.prefix), route) for route in routes)


class Life:
    """A control and an ExaBGP, joined; time moves only when told."""

    def __init__(
        self,
        exabgp: SmallExaBgp | None = None,
        *,
        watched: bool = True,
        withdrawn: frozenset[Prefix] = frozenset(),
    ) -> None:
        self.exabgp = exabgp or SmallExaBgp(ROUTER)
        self.control = Control(POP)
        self.now = 100.0
        self.heard = self.now
        told = dict(self.exabgp.peer)
        sessions = {ROUTER: Watched(told=told, finished=frozenset())} if self.exabgp.up and watched else {}
        self.exabgp.said.clear()
        welcome = Welcome(exabgp="5.0.15", lease_s=3.0, sessions=sessions, withdrawn={ROUTER: withdrawn})
        self.control.connected(welcome, self.now)

    def order(self) -> None:
        """Pass on what is to be ordered now."""
        if not self.exabgp.said:
            self.heard = self.now
        for number, order in self.control.orders(self.now, heard=self.heard):
            self.exabgp.command(number, order)

    def hear(self, most: int = 1000) -> None:
        """Take at most so many of the things ExaBGP said."""
        while self.exabgp.said and most:
            said = self.exabgp.said.popleft()
            if isinstance(said, Answer):
                self.control.answer(said, self.now)
            else:
                assert isinstance(said, relay_api.Event)
                self.control.event(said.event, self.now)
            most -= 1

    def settle(self, steps: int = 60) -> None:
        """Let everything work, and time pass, until nothing more happens."""
        for _ in range(steps):
            self.order()
            self.exabgp.flush()
            self.hear()
            deadline = self.control.next_deadline()
            if deadline is not NEVER:
                self.now = max(self.now, deadline)


OPS = st.one_of(
    st.builds(lambda a, b: ("set", table(**{k: v for k, v in (("a", a), ("b", b)) if v})), *[st.integers(0, 2)] * 2),
    st.sampled_from([("up", None), ("down", None), ("flush", None), ("fail", None)]),
    st.sampled_from([("order", None), ("hear", 1), ("hear", 1000), ("converse", None)]),
    st.tuples(st.sampled_from(["wait", "pause"]), st.floats(0.0, 2.9)),
)


def live(life: Life, name: str, value: object) -> None:
    """Do one of `OPS`."""
    match name:
        case "up" | "down":
            life.exabgp.session(up=name == "up")
        case "flush":
            life.exabgp.flush()
        case "order":
            life.order()
        case "hear":
            life.hear(most=value)  # type: ignore[arg-type]
        case "converse":
            life.order()
            life.hear()
        case "fail":
            life.exabgp.forget_queue()
        case "wait":  # ExaBGP works, and the agent listens
            life.exabgp.flush()
            life.hear()
            life.now += value  # type: ignore[operator]
        case "pause":  # ExaBGP works; the agent stands still, and looks at its timers before it listens again
            life.exabgp.flush()
            life.now += value  # type: ignore[operator]
            life.order()
            life.hear()


@settings(max_examples=200)
@given(ops=st.lists(OPS, max_size=40))
def test_whatever_happens_the_router_ends_with_exactly_what_is_wanted_and_that_is_what_is_told(
    ops: list[tuple[str, object]],
) -> None:
    life = Life()
    life.settle(steps=2)
    wanted = table()
    for name, value in ops:
        if name == "set":
            wanted = value  # type: ignore[assignment]
            life.control.set(wanted)
            life.order()
        else:
            live(life, name, value)
    life.control.set(wanted)
    life.exabgp.session(up=True)
    life.settle()
    actual = life.control.actual()
    assert not life.exabgp.stopped
    assert life.exabgp.peer == {key.prefix: route for key, route in wanted.items()}
    assert dict(actual.routes) == dict(wanted)
    assert not actual.pending
    assert not actual.failed


def test_an_agent_that_stood_still_does_not_end_exabgp_for_the_answer_it_has_not_read() -> None:
    life = Life()
    life.exabgp.session(up=True)
    life.control.set(table(a=1))
    life.settle()
    life.control.set(table())
    life.order()
    life.exabgp.flush()
    life.now += 2.5
    life.order()
    assert not life.exabgp.stopped
    life.hear()
    assert not life.control.actual().pending
    assert not life.control.actual().failed


def test_an_exabgp_that_hangs_is_ended_although_the_agent_stands_still_again_and_again() -> None:
    life = Life()
    life.exabgp.session(up=True)
    life.control.set(table(a=1))
    life.settle()
    life.control.set(table())
    life.order()
    life.exabgp.said.clear()
    for ended in (False, True):
        life.now += 2.5
        life.order()
        assert life.exabgp.stopped is ended


@given(meds=st.dictionaries(st.sampled_from("ab"), st.integers(1, 2)), watched=st.booleans())
def test_taking_over_what_is_already_right_sends_nothing(meds: dict[str, int], *, watched: bool) -> None:
    before = Life()
    before.control.set(table(**meds))
    before.exabgp.session(up=True)
    before.settle()
    updates = before.exabgp.updates
    after = Life(before.exabgp, watched=watched)
    after.settle(steps=3)
    assert after.control.actual().inherited
    assert dict(after.control.actual().routes) == dict(table(**meds))
    after.control.set(table(**meds))
    after.settle()
    blind = 0 if watched else len(PREFIXES) - len(meds)
    assert before.exabgp.updates == updates + blind, "a session nobody watched is cleared of what it must not carry"
    assert not after.control.actual().pending


@pytest.mark.parametrize("lost_meanwhile", [False, True])
def test_what_the_relay_heard_withdrawn_is_not_withdrawn_blindly_while_that_session_stands(
    *, lost_meanwhile: bool
) -> None:
    exabgp = SmallExaBgp(ROUTER)
    exabgp.session(up=True)
    life = Life(exabgp, watched=False, withdrawn=frozenset(PREFIXES))
    life.control.set(table())
    life.settle()
    assert exabgp.updates == 0
    if lost_meanwhile:
        # It comes back before anybody reads: no event told of it, so that what was withdrawn means nothing any more.
        for up in (False, True):
            exabgp.session(up=up)
            exabgp.said.clear()
            for _ in range(3):
                life.now = life.control.next_deadline()
                life.order()
                life.hear()
        life.settle()
        assert exabgp.updates == len(PREFIXES)


def test_to_and_fro_before_a_session_is_put_right_although_exabgp_believes_it_was_sent() -> None:
    life = Life()
    life.settle(steps=2)
    for med in (1, 2, 1):
        life.control.set(table(a=med))
        life.order()
        life.hear()
    life.exabgp.session(up=True)
    life.exabgp.flush()
    assert life.exabgp.peer[pops.VIP4].med == 2, "the trap"
    life.settle()
    assert life.exabgp.peer[pops.VIP4].med == 1


def test_nothing_is_ordered_while_a_fresh_session_gets_its_first_batch() -> None:
    life = Life()
    life.settle(steps=2)
    life.control.set(table(a=1))
    life.settle()
    life.exabgp.session(up=True)
    life.hear()
    life.control.set(table(b=1))
    changes = [
        order for _, order in life.control.orders(life.now, heard=life.now) if isinstance(order, Announce | Withdraw)
    ]
    assert changes == []
    life.exabgp.flush()
    life.hear()
    changes = [
        order for _, order in life.control.orders(life.now, heard=life.now) if isinstance(order, Announce | Withdraw)
    ]
    assert [type(order) for order in changes] == [Withdraw, Announce], "withdraws first"


def test_before_the_first_set_nothing_is_changed() -> None:
    before = Life()
    before.control.set(table(a=1))
    before.exabgp.session(up=True)
    before.settle()
    updates = before.exabgp.updates
    after = Life(before.exabgp)
    after.settle()
    assert before.exabgp.updates == updates
    assert before.exabgp.peer


def test_a_route_stuck_at_the_router_although_exabgp_forgot_it_is_withdrawn() -> None:
    exabgp = SmallExaBgp(ROUTER)
    exabgp.session(up=True)
    exabgp.peer[pops.VIP4] = Route(prefix=pops.VIP4, next_hop=HOP)
    for watched in (True, False):
        life = Life(exabgp, watched=watched)
        life.control.set(table())
        life.settle()
        assert not exabgp.peer
        exabgp.peer[pops.VIP4] = Route(prefix=pops.VIP4, next_hop=HOP)


class DeafExaBgp(SmallExaBgp):
    """Answers everything and sends nothing: what a bug in ExaBGP would look like."""

    def flush(self) -> None:
        """Send nothing, but keep living."""


def test_a_withdraw_that_never_gets_out_is_repeated_then_resets_the_session() -> None:
    exabgp = SmallExaBgp(ROUTER)
    life = Life(exabgp)
    life.control.set(table(a=1))
    exabgp.session(up=True)
    life.settle()
    exabgp.__class__ = DeafExaBgp
    life.control.set(table())
    life.settle()
    assert not exabgp.peer, "the reset took it away"
    assert not exabgp.stopped
    assert not life.control.actual().pending


def test_a_withdraw_that_is_never_answered_ends_exabgp() -> None:
    life = Life()
    life.control.set(table(a=1))
    life.exabgp.session(up=True)
    life.settle()
    life.control.set(table())
    hung_since = life.now
    while not life.exabgp.stopped:
        for number, order in life.control.orders(life.now, heard=life.now):
            if isinstance(order, Stop):
                life.exabgp.command(number, order)
        assert life.control.actual().pending
        life.now = life.control.next_deadline()
        assert life.now < hung_since + 3 * Patience().answer_s
    assert life.control.actual().failed


def test_what_the_relay_refuses_to_withdraw_never_ends_exabgp() -> None:
    """It works: it was not even asked. The alarm stays until the relay knows better."""
    exabgp = SmallExaBgp(ROUTER)
    exabgp.session(up=True)
    exabgp.peer[pops.VIP4] = Route(prefix=pops.VIP4, next_hop=HOP)
    life = Life(exabgp)
    life.control.set(table())
    life.settle(steps=2)
    refused: list[Order] = []
    while life.now < 200.0:
        for number, order in life.control.orders(life.now, heard=life.now):
            if isinstance(order, Withdraw | Teardown):
                refused.append(order)
                life.control.answer(Answer(number=number, result=Result.REFUSED), life.now)
            else:
                exabgp.command(number, order)
        life.hear()
        life.now = life.control.next_deadline()
    assert {type(order) for order in refused} == {Withdraw, Teardown}
    assert not exabgp.stopped
    assert life.control.actual().failed == {RouteKey(ROUTER, pops.VIP4)}
    life.settle()
    assert not exabgp.peer
    assert not life.control.actual().failed


def test_an_announcement_that_is_refused_is_told_and_tried_again_at_leisure() -> None:
    life = Life()
    life.settle(steps=2)
    life.control.set(table(a=1))
    (number,) = (
        number for number, order in life.control.orders(life.now, heard=life.now) if isinstance(order, Announce)
    )
    life.control.answer(Answer(number=number, result=Result.REFUSED), life.now)
    assert life.control.actual().failed == life.control.actual().pending == {RouteKey(ROUTER, pops.VIP4)}
    assert not [
        order for _, order in life.control.orders(life.now + 1.0, heard=life.now + 1.0) if isinstance(order, Announce)
    ]
    later = life.now + Patience().again_s
    later_orders = life.control.orders(later, heard=later)
    assert [order for _, order in later_orders if isinstance(order, Announce)]


def test_a_lost_state_event_is_noticed_by_reading_twice() -> None:
    life = Life()
    life.exabgp.session(up=True)
    life.control.set(table(a=1))
    life.settle()
    life.exabgp.up = False
    life.settle()
    assert life.control.actual().sessions == {ROUTER: False}


def test_a_reading_that_fails_ends_the_connection() -> None:
    life = Life()
    ((number, _), _) = life.control.orders(life.now, heard=life.now)
    with pytest.raises(WireError):
        life.control.answer(Answer(number=number, result=Result.ERROR), life.now)


def test_a_lost_connection_forgets_what_was_proven_and_keeps_what_is_wanted() -> None:
    life = Life()
    life.exabgp.session(up=True)
    life.control.set(table(a=1))
    life.settle()
    life.control.disconnected()
    actual = life.control.actual()
    assert (actual.connected, actual.inherited, dict(actual.routes)) == (False, False, {})
    life.control.connected(Welcome(exabgp="5.0.15", lease_s=3.0, sessions={}), life.now)
    life.settle()
    assert dict(life.control.actual().routes) == dict(table(a=1))
