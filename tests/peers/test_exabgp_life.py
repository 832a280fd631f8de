"""Who may die, hang or restart, and what the router then sees: every row of the life table, against real daemons."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from popctl.model.pop import Lease
from popctl.model.route import route_table
from tests.eventually import eventually, eventually_async
from tests.peers.bgp_edge import BOTH, NOTHING, Edge, agent_process, edge, speaking
from tests.peers.exabgp import KEY4, LEASE_S, ROUTE4, RelayClient, greeted, kill_relays_until_exabgp_ends
from tests.pops import VIP4, VIP6

pytestmark = pytest.mark.peer

BOUND_S = LEASE_S + 1.0
LONG_LEASE = Lease(duration_s=30.0)
DROP_AT_ONCE_S = 0.5


def both_at(edge: Edge) -> bool:
    return edge.bird.has(VIP4) and edge.bird.has(VIP6)


def gone_within(edge: Edge, bound_s: float, since: float) -> None:
    eventually(lambda: not edge.bird.routes(), within_s=bound_s)
    assert time.monotonic() - since <= bound_s


# --------------------------------------------------------------------------------------------------------- the agent


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_dead_or_hung_agent_loses_its_routes_at_lease_plus_a_second_and_the_session_stays(
    number: signal.Signals,
) -> None:
    with edge() as e, agent_process(e.exabgp) as agent:
        eventually(lambda: both_at(e))
        agent.send_signal(number)
        gone_within(e, BOUND_S, time.monotonic())
        assert e.exabgp.alive
        assert e.bird.established("edge4")
        assert e.bird.established("edge6")


def test_an_agent_that_wakes_up_after_its_lease_takes_over_anew_and_announces_again() -> None:
    with edge() as e, agent_process(e.exabgp) as agent:
        eventually(lambda: both_at(e))
        agent.send_signal(signal.SIGSTOP)
        gone_within(e, BOUND_S, time.monotonic())
        agent.send_signal(signal.SIGCONT)
        eventually(lambda: both_at(e))


def test_a_connection_held_open_without_renewals_counts_for_nothing() -> None:
    with edge() as e, greeted(e.exabgp.socket) as client:
        assert client.command("neighbor 192.0.2.1 announce route 198.51.100.0/24 next-hop 192.0.2.10") == "done"
        eventually(lambda: e.bird.has(VIP4))
        gone_within(e, BOUND_S, time.monotonic())
        assert client.until("never") == {}, "the relay closes the connection of an expired agent"


def test_a_site_that_chose_to_hold_keeps_its_routes_without_an_agent() -> None:
    with edge(lease=Lease(duration_s=0.4, on_expiry_hold=True)) as e, agent_process(e.exabgp) as agent:
        eventually(lambda: both_at(e))
        agent.kill()
        eventually(lambda: "routes are held" in e.exabgp.log())
        assert both_at(e)


async def test_an_agent_restart_costs_not_one_update() -> None:
    with edge() as e:
        async with speaking(e.exabgp.pop) as first:
            await first.inherited()
            await first.set_and_prove(BOTH)
            await eventually_async(lambda: both_at(e))
            before = e.bird.imports("edge4"), e.bird.imports("edge6")
            await first.speaker.release()
        async with speaking(e.exabgp.pop) as second:
            await second.inherited()
            assert second.proven(BOTH), "inherited routes are known before anything is ordered"
            await second.set_and_prove(BOTH)
            assert (e.bird.imports("edge4"), e.bird.imports("edge6")) == before
        async with speaking(e.exabgp.pop) as third:
            await third.inherited()
            await third.set_and_prove(route_table([(KEY4, ROUTE4)]))
            await eventually_async(lambda: not e.bird.has(VIP6))
            assert e.bird.imports("edge4") == before[0], "what matches is adopted, what does not is withdrawn"


async def test_a_released_lease_runs_out_without_a_successor() -> None:
    with edge() as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(BOTH)
            await eventually_async(lambda: both_at(e))
            await spoken.speaker.release()
        assert both_at(e), "a release withdraws nothing"
        await eventually_async(lambda: not e.bird.routes(), within_s=BOUND_S)


async def test_an_agent_that_breathes_but_no_longer_decides_loses_its_lease() -> None:
    """And takes none again: it would announce for another lease what it wanted when it last decided."""
    deciding = True
    asked = 0

    def alive() -> bool:
        nonlocal asked
        asked += 1
        return deciding

    with edge() as e:
        async with speaking(e.exabgp.pop, alive=alive) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(BOTH)
            await eventually_async(lambda: both_at(e))
            deciding = False
            await eventually_async(lambda: not e.bird.routes(), within_s=BOUND_S)
            before, enough = (e.bird.imports("edge4"), e.bird.imports("edge6")), asked + 10
            # It is asked three times a lease, connected or not.
            await eventually_async(lambda: asked >= enough)
            assert (e.bird.imports("edge4"), e.bird.imports("edge6")) == before
            assert not e.bird.routes()
            assert spoken.actual.problem == "this agent no longer decides: it takes no lease"
            deciding = True
            await eventually_async(lambda: both_at(e))


async def test_an_agent_that_never_decided_again_can_still_give_its_lease_back() -> None:
    with edge() as e:
        async with speaking(e.exabgp.pop, alive=lambda: False) as spoken:
            await eventually_async(lambda: "takes no lease" in spoken.actual.problem)
            await spoken.speaker.release()
        greeted(e.exabgp.socket).close()


async def test_an_agent_that_is_busy_without_a_break_keeps_its_lease() -> None:
    """Changes that follow each other closely must not put the renewal off."""
    with edge(lease=Lease(duration_s=0.5)) as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            seen = len(spoken.actuals)
            end = time.monotonic() + 3 * e.exabgp.pop.lease.duration_s
            while time.monotonic() < end:
                for table in (BOTH, NOTHING):
                    await spoken.speaker.set(table)
                    await eventually_async(lambda table=table: spoken.proven(table), every_s=0.001)  # type: ignore[misc]
            assert all(actual.connected for actual in spoken.actuals[seen:])
            assert "lease expired" not in e.exabgp.log()


def test_only_one_agent_at_a_time_and_a_closed_one_is_replaced_at_once() -> None:
    with edge() as e, greeted(e.exabgp.socket) as first:
        with RelayClient(e.exabgp.socket) as second:
            refusal = second.hello()
        assert (refusal["type"], refusal["reason"]) == ("refused", "fenced")
        first.close()
        greeted(e.exabgp.socket).close()


def test_whoever_is_refused_can_still_say_hello_and_learns_why() -> None:
    with edge(lease=LONG_LEASE) as e, greeted(e.exabgp.socket) as first, ExitStack() as others:
        for say_hello in (True, False) * 10:
            other = others.enter_context(RelayClient(e.exabgp.socket))
            other.wait()
            refusal = other.hello() if say_hello else other.receive()
            assert (refusal["type"], refusal["reason"]) == ("refused", "fenced")
        assert first.command("version") == "done", "a crowd of silent ones costs the agent nothing"


async def test_an_agent_that_is_refused_asks_less_and_less_often_and_says_so_once() -> None:
    attempts: list[float] = []

    def alive() -> bool:
        attempts.append(time.monotonic())
        return True

    with edge(lease=LONG_LEASE) as e, greeted(e.exabgp.socket) as first, capture_logs() as logs:
        async with speaking(e.exabgp.pop, alive=alive) as spoken:
            await eventually_async(lambda: len(attempts) > 6)
            assert spoken.actual.problem.startswith("the relay refuses: fenced")
        waits = [later - earlier for earlier, later in pairwise(attempts)]
        assert all(wait >= least for wait, least in zip(waits, (0.1, 0.2, 0.4, 0.8, 1.0, 1.0), strict=False))
        assert [line["error"] for line in logs if line["log_level"] == "warning"] == [spoken.actual.problem]
        assert first.command("version") == "done"


# --------------------------------------------------------------------------------------------------------- the relay


async def test_a_killed_relay_comes_back_and_the_router_sees_nothing() -> None:
    with edge() as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(BOTH)
            await eventually_async(lambda: both_at(e))
            before = e.bird.imports("edge4"), e.bird.imports("edge6")
            dead = e.exabgp.signal_relay(signal.SIGKILL)
            await eventually_async(lambda: not spoken.actual.connected)
            await eventually_async(lambda: spoken.actual.inherited and spoken.proven(BOTH))
            assert e.exabgp.relay_pid != dead
            assert (e.bird.imports("edge4"), e.bird.imports("edge6")) == before
            await spoken.set_and_prove(NOTHING)
            await eventually_async(lambda: not e.bird.routes())


async def test_after_a_relay_died_what_was_withdrawn_unseen_is_not_withdrawn_again_by_every_agent() -> None:
    with edge() as e:
        only = route_table([(KEY4, ROUTE4)])
        async with speaking(e.exabgp.pop) as first:
            await first.inherited()
            await first.set_and_prove(only)
            e.exabgp.signal_relay(signal.SIGKILL)
            await eventually_async(lambda: not first.actual.connected)
            await eventually_async(lambda: first.actual.inherited and first.proven(only))
            # The new relay has not seen the sessions begin: on the other one a route may have been left behind.
            await eventually_async(lambda: e.bird.imports("edge6").changes == 1)
            before = e.bird.imports("edge4"), e.bird.imports("edge6")
            await first.speaker.release()
        async with speaking(e.exabgp.pop) as second:
            await second.inherited()
            await second.set_and_prove(only)
            assert (e.bird.imports("edge4"), e.bird.imports("edge6")) == before


def test_a_relay_that_respawns_without_an_agent_withdraws_after_one_lease() -> None:
    with edge() as e, agent_process(e.exabgp) as agent:
        eventually(lambda: both_at(e))
        agent.kill()
        since = time.monotonic()
        e.exabgp.signal_relay(signal.SIGKILL)
        gone_within(e, BOUND_S + 0.5, since)
        assert e.exabgp.alive


def test_a_stopped_relay_takes_exabgp_with_it_at_lease_plus_a_second() -> None:
    with edge() as e, agent_process(e.exabgp):
        eventually(lambda: both_at(e))
        since = time.monotonic()
        e.exabgp.signal_relay(signal.SIGSTOP)
        gone_within(e, BOUND_S, since)
        eventually(lambda: not e.exabgp.alive)


def test_a_relay_that_dies_again_and_again_ends_exabgp_and_so_the_routes() -> None:
    with edge() as e, agent_process(e.exabgp):
        eventually(lambda: both_at(e))
        kill_relays_until_exabgp_ends(e.exabgp)
        eventually(lambda: not e.bird.routes(), within_s=DROP_AT_ONCE_S)


# ------------------------------------------------------------------------------------------------------------ ExaBGP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_when_exabgp_goes_the_router_drops_the_routes_at_once(number: signal.Signals) -> None:
    """Graceful restart is off, or the router would keep stale routes."""
    with edge() as e, agent_process(e.exabgp):
        eventually(lambda: both_at(e))
        assert "Restart time" not in e.bird.ask("show protocols all edge4")
        relay = e.exabgp.relay_pid
        os.kill(e.exabgp.pid, number)
        gone_within(e, DROP_AT_ONCE_S, time.monotonic())
        eventually(lambda: not _runs(relay))


def test_a_dead_agent_behind_a_stopped_exabgp_still_loses_its_routes_at_lease_plus_a_second() -> None:
    with edge() as e, agent_process(e.exabgp) as agent:
        eventually(lambda: both_at(e))
        e.exabgp.stop()
        agent.kill()
        gone_within(e, BOUND_S, time.monotonic())
        eventually(lambda: not e.exabgp.alive)


def test_a_stopped_exabgp_loses_its_routes_at_the_hold_time() -> None:
    with edge(hold_s=3) as e, agent_process(e.exabgp):
        eventually(lambda: both_at(e))
        e.exabgp.stop()
        gone_within(e, 4.5, time.monotonic())
        e.exabgp.cont()
        eventually(lambda: both_at(e))


async def test_a_withdraw_that_a_hung_exabgp_ignores_ends_it() -> None:
    with edge() as e:
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited()
            await spoken.set_and_prove(BOTH)
            await eventually_async(lambda: both_at(e))
            e.exabgp.stop()
            await spoken.speaker.set(NOTHING)
            await eventually_async(lambda: not e.bird.routes(), within_s=4.0)
            await eventually_async(lambda: not spoken.actual.connected)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --------------------------------------------------------------------------------------------------------- the router


async def test_what_is_wanted_while_the_router_is_away_is_replayed_when_it_comes() -> None:
    with edge() as e:
        e.bird.kill()
        async with speaking(e.exabgp.pop) as spoken:
            await spoken.inherited(sessions=False)
            await eventually_async(lambda: not any(spoken.actual.sessions.values()))
            await spoken.set_and_prove(BOTH)
            assert not any(spoken.actual.sessions.values()), "proven means: would be replayed"
            e.bird.start()
            await eventually_async(lambda: both_at(e))
            await eventually_async(lambda: all(spoken.actual.sessions.values()) and spoken.proven(BOTH))
