"""ExaBGP as it is when a part of it dies, is ended or is told to reload: each row of the table in docs/exabgp.md."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from popctl.model.pop import Lease
from tests.eventually import eventually
from tests.peers.bgp_edge import Edge, edge
from tests.peers.bird import Imports
from tests.peers.exabgp import RelayClient, children, greeted, kill_relays_until_exabgp_ends
from tests.pops import VIP4, VIP6

pytestmark = pytest.mark.peer

LEASE = Lease(duration_s=30.0)
"""Nothing here may be the work of the lease."""
ROUTE4 = "neighbor 192.0.2.1 {} route 198.51.100.0/24 next-hop 192.0.2.10"
ROUTE6 = "neighbor 2001:db8::1 {} route 2001:db8:100::/48 next-hop 2001:db8::10"
AT_ONCE_S = 1.0
PIPE_BYTES = 4096


def both_at(edge: Edge) -> bool:
    return edge.bird.has(VIP4) and edge.bird.has(VIP6)


def announce_both(edge: Edge, client: RelayClient) -> None:
    """Announce, and wait for the router."""
    eventually(lambda: edge.bird.established("edge4") and edge.bird.established("edge6"))
    for line in (ROUTE4, ROUTE6):
        assert client.command(line.format("announce")) == "done"
    eventually(lambda: both_at(edge))


def heard(edge: Edge) -> tuple[Imports, Imports]:
    return edge.bird.imports("edge4"), edge.bird.imports("edge6")


def no_session_told(edge: Edge) -> bool:
    with greeted(edge.exabgp.socket) as client:
        client.order("show neighbor json")
        return "ESTABLISHED" not in "".join(client.until("answer")["lines"])


def reset_session(edge: Edge) -> None:
    """Reset a session from the router's side; returns when it is a new one."""
    before = edge.bird.imports("edge4").since
    edge.bird.ask("restart edge4")
    eventually(lambda: edge.bird.imports("edge4").since != before)


# ------------------------------------------------------------------------------------------------- the relay ends


def test_routes_of_a_dead_relay_outlive_even_a_session() -> None:
    """Its successor announces nothing by itself: what ExaBGP once took it replays."""
    with edge(lease=LEASE) as e:
        with greeted(e.exabgp.socket) as client:
            announce_both(e, client)
        dead = e.exabgp.signal_relay(signal.SIGKILL)
        eventually(lambda: children(e.exabgp.pid) not in ([], [dead]))
        reset_session(e)
        eventually(lambda: both_at(e))


def test_a_relay_that_may_not_be_started_again_leaves_its_routes_behind_and_the_next_lost_session_ends_exabgp() -> None:
    with edge(lease=LEASE, edits={r"respawn true;": "respawn false;"}) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        e.exabgp.signal_relay(signal.SIGKILL)
        eventually(lambda: not children(e.exabgp.pid))
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            reload(e, number)
        assert both_at(e)
        assert not children(e.exabgp.pid), "a reload does not bring it back"
        e.bird.ask("restart edge4")
        eventually(lambda: not e.exabgp.alive)
        assert "KeyError" in e.exabgp.log()


@pytest.mark.parametrize(("sessions", "status"), [(True, 1), (False, 0)], ids=["established", "down"])
def test_exabgp_whose_relay_died_too_often_ends_with_success_when_no_session_stands(
    *, sessions: bool, status: int
) -> None:
    """With one that stands it ends by the `KeyError` above."""
    with edge(lease=LEASE) as e:
        if sessions:
            with greeted(e.exabgp.socket) as client:
                announce_both(e, client)
        else:
            e.bird.kill()
            eventually(lambda: no_session_told(e))
        kill_relays_until_exabgp_ends(e.exabgp)
        assert e.exabgp.exit_status == status


@pytest.mark.parametrize("respawn", ["true", "false"])
def test_the_setting_terminate_does_not_end_exabgp_with_its_relay(respawn: str) -> None:
    edits = {r"terminate = false": "terminate = true", r"respawn true;": f"respawn {respawn};"}
    with edge(lease=LEASE, edits=edits) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        dead = e.exabgp.signal_relay(signal.SIGKILL)
        eventually(lambda: dead not in children(e.exabgp.pid))
        eventually(lambda: bool(children(e.exabgp.pid)) is (respawn == "true"))
        assert e.exabgp.alive
        assert both_at(e)


def test_with_a_relay_that_cannot_be_started_exabgp_lives_on_without_a_peer(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/python\n")
    broken.chmod(0o755)
    with edge(lease=LEASE) as e:
        e.exabgp.kill()
        eventually(lambda: not e.bird.established())
        e.exabgp.edits = {r"run .*;": f"run {broken};"}
        e.exabgp.start()
        eventually(lambda: e.exabgp.log_of_this_life().count("lost the helper process for this peer - stopping") == 2)
        assert e.exabgp.alive
        assert not children(e.exabgp.pid)
        assert not e.bird.established()


def test_a_relay_that_reads_no_more_blocks_exabgp_once_its_pipe_is_full_and_the_guard_kills_it() -> None:
    lease = Lease(duration_s=4.0)
    with edge(lease=lease) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        shrink_pipe(e.exabgp.relay_pid)
        since = time.monotonic()
        e.exabgp.signal_relay(signal.SIGSTOP)
        eventually(lambda: writes_in_vain(e) or flap(e), within_s=lease.duration_s - 1.0)
        os.kill(e.exabgp.pid, signal.SIGTERM)
        assert e.bird.has(VIP6), "the other session stands, without KEEPALIVE from now on"
        eventually(lambda: not e.bird.routes())
        assert time.monotonic() - since <= lease.duration_s + 1.0
        eventually(lambda: e.exabgp.exit_status == -signal.SIGKILL)
        assert "SIGTERM received" in e.exabgp.log()
        assert "performing shutdown" not in e.exabgp.log(), "it heard SIGTERM, and could not obey"


def shrink_pipe(relay: int) -> None:
    """Make the relay's end of ExaBGP's pipe as small as can be: some ten events instead of hundreds."""
    stdin = os.open(f"/proc/{relay}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.close(stdin)


def writes_in_vain(edge: Edge) -> bool:
    """Whether ExaBGP waits in the kernel for room in a pipe."""
    return "pipe_write" in Path(f"/proc/{edge.exabgp.pid}/wchan").read_text()


def flap(edge: Edge) -> bool:
    """Lose a session from the router's side, if it stands: every time ExaBGP has four things to tell. Never true."""
    if edge.bird.established("edge4"):
        edge.bird.ask("restart edge4")
    return False


# ----------------------------------------------------------------------------------------------- ExaBGP is signalled


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda number: number.name)
def test_exabgp_that_is_ended_closes_its_sessions_without_a_word_and_executes_nothing_more(
    number: signal.Signals,
) -> None:
    with edge(lease=LEASE) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        os.kill(e.exabgp.pid, number)
        eventually(lambda: "performing shutdown" in e.exabgp.log(), every_s=0.002)
        with suppress(ConnectionError):  # the relay is ended a tenth of a second later
            client.order(ROUTE4.format("withdraw"))
            assert client.until("answer") == {}, "the command was not executed"
        eventually(lambda: not e.bird.routes(), within_s=AT_ONCE_S)
        eventually(lambda: e.exabgp.exit_status == 0)
        for name in ("edge4", "edge6"):
            assert "Last error:       Socket:" in e.bird.ask(f"show protocols all {name}"), "no NOTIFICATION came"


def test_a_reload_of_the_same_file_moves_neither_session_nor_relay() -> None:
    with edge(lease=LEASE) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        before, relay = heard(e), e.exabgp.relay_pid
        reload(e, signal.SIGUSR1)
        assert client.command("version") == "done"
        assert (heard(e), e.exabgp.relay_pid) == (before, relay)


def test_a_reload_does_not_start_another_relay_and_a_changed_neighbor_gets_a_new_session() -> None:
    with edge(lease=LEASE) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        before, relay = heard(e), e.exabgp.relay_pid
        # The words of the relay differ, and of one neighbour the hold time.
        e.exabgp.write({r"python\S* -I": r"\g<0> -B", r"(neighbor 192.0.2.1 [^}]*hold-time) 9": r"\1 12"})
        reload(e, signal.SIGUSR1)
        eventually(lambda: e.bird.imports("edge4").since != before[0].since)
        eventually(lambda: both_at(e))
        assert (e.bird.imports("edge6"), e.exabgp.relay_pid) == (before[1], relay)


def test_a_full_reload_starts_the_relay_anew_and_moves_no_session() -> None:
    with edge(lease=LEASE) as e:
        with greeted(e.exabgp.socket) as client:
            announce_both(e, client)
        before, relay = heard(e), e.exabgp.relay_pid
        reload(e, signal.SIGUSR2)
        eventually(lambda: relay not in children(e.exabgp.pid) and children(e.exabgp.pid))
        greeted(e.exabgp.socket).close()
        assert heard(e) == before


def test_a_restart_by_signal_begins_every_session_anew_and_replays_the_routes() -> None:
    with edge(lease=LEASE) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        before = heard(e)
        os.kill(e.exabgp.pid, signal.SIGALRM)
        eventually(lambda: all(now.since != then.since for now, then in zip(heard(e), before, strict=True)))
        eventually(lambda: both_at(e))


# ------------------------------------------------------------------------------------------- what the session is told


def test_a_session_that_is_reset_ends_with_a_cease_and_comes_back_with_its_routes() -> None:
    """The second step of the escalation, after a withdraw was repeated in vain."""
    with edge(lease=LEASE) as e, greeted(e.exabgp.socket) as client:
        announce_both(e, client)
        before = heard(e)
        assert client.command("neighbor 192.0.2.1 teardown 2") == "done"
        eventually(lambda: e.bird.imports("edge4").since != before[0].since)
        assert "edge4: Received: Administrative shutdown" in e.bird.log()
        eventually(lambda: both_at(e))
        assert e.bird.imports("edge6") == before[1], "nobody else is touched"


@pytest.mark.parametrize("graceful", [True, False])
def test_with_graceful_restart_the_router_would_keep_the_routes_of_a_dead_exabgp(*, graceful: bool) -> None:
    edits = {r"graceful-restart disable": "graceful-restart 120"} if graceful else {}
    with (
        edge(lease=LEASE, edits=edits, router_restarts_gracefully=True) as e,
        greeted(e.exabgp.socket) as client,
    ):
        announce_both(e, client)
        e.exabgp.kill()
        eventually(lambda: not e.bird.established("edge4") and not e.bird.established("edge6"))
        assert both_at(e) is graceful


def reload(edge: Edge, number: signal.Signals) -> None:
    """Have the configuration read again; returns when it was."""
    reads = edge.exabgp.log().count("loaded new configuration successfully")
    os.kill(edge.exabgp.pid, number)
    eventually(lambda: edge.exabgp.log().count("loaded new configuration successfully") > reads)
