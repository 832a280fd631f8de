"""The datagram engine against real sockets on loopback."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from ipaddress import ip_address
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from popctl.model.observation import Outcome
from popctl.model.probe import ProbeKey, Tcp
from popctl.model.reason import Reason
from popctl.senses.channel import Channel
from popctl.senses.datagram import DatagramProber
from popctl.senses.prober import Target, failed
from popctl.senses.udp import DatagramEngine
from tests.eventually import eventually_async
from tests.unit.senses.peers import (
    AskExchange,
    answer,
    daemon,
    free_port,
    open_descriptors,
    prober,
    run,
    run_to_the_end,
    silent,
    target,
)

if TYPE_CHECKING:
    from popctl.senses.prober import Result


async def test_an_answer_passes_with_its_round_trip_time() -> None:
    async with daemon() as peer, prober() as made:
        result = await run(made, target(peer.port))
    assert (result.outcome, result.reason, result.detail) == (Outcome.PASS, Reason.ANSWERED, "yes")
    assert result.rtt_s is not None
    assert 0 < result.rtt_s < 5


async def test_a_refusal_counts_at_once() -> None:
    began = time.monotonic()
    async with prober() as made:
        result = await run(made, target(free_port()), within_s=60.0)
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.REFUSED)
    assert time.monotonic() - began < 30


async def test_a_wrong_answer_fails_and_the_clean_up_is_sent() -> None:
    async with (
        daemon(lambda request: [b"NO " + request[4:]] if request[:3] == b"ASK" else []) as peer,
        prober() as made,
    ):
        result = await run(made, target(peer.port))
        await eventually_async(lambda: peer.verbs() == [b"ASK", b"BYE"])
    assert (result.outcome, result.reason, result.detail) == (Outcome.FAIL, Reason.WRONG_ANSWER, "no")


async def test_silence_is_asked_three_times_in_the_same_bytes_and_then_told_goodbye() -> None:
    async with daemon(silent) as peer, prober() as made:
        result = await run(made, target(peer.port), within_s=0.3)
        await eventually_async(lambda: b"BYE" in peer.verbs())
    assert result.reason in {Reason.TIMED_OUT, Reason.OVERLOADED}
    asked = [datagram for datagram in peer.received if datagram.startswith(b"ASK")]
    assert 1 <= len(asked) <= 3
    assert len(set(asked)) == 1
    assert peer.verbs()[-1] == b"BYE"


async def test_silence_times_out() -> None:
    async with daemon(silent) as peer, prober() as made:
        result = await run_to_the_end(made, target(peer.port))
    assert result == failed(Reason.TIMED_OUT)


async def test_each_run_has_a_fresh_token() -> None:
    async with daemon() as peer, prober() as made:
        for _ in range(3):
            await run(made, target(peer.port))
        await eventually_async(lambda: peer.verbs().count(b"BYE") == 3)
    asked = [datagram for datagram in peer.received if datagram.startswith(b"ASK")]
    assert len(set(asked)) == 3


@pytest.mark.parametrize(
    "reply",
    [b"", b"x", b"\xff" * 512, b"ANS stranger", b"ANS " + bytes(9000)],
    ids=["empty", "truncated", "garbage", "foreign", "oversized"],
)
async def test_datagrams_that_are_not_for_this_run_are_skipped_but_name_the_timeout(reply: bytes) -> None:
    async with daemon(lambda _: [reply]) as peer, prober() as made:
        result = await run_to_the_end(made, target(peer.port))
        assert made.engine.foreign_total >= 1
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.GARBAGE)


async def test_an_answer_behind_garbage_still_passes() -> None:
    async with daemon(lambda request: [b"x", b"ANS stranger", bytes(9000), *answer(request)]) as peer, prober() as made:
        result = await run(made, target(peer.port))
    assert result.reason is Reason.ANSWERED


async def test_the_answer_to_an_earlier_run_never_passes_the_present_one() -> None:
    earlier: list[bytes] = []

    def replay(request: bytes) -> list[bytes]:
        earlier.append(request)
        return [b"ANS " + earlier[0][4:]]

    async with daemon(replay) as peer, prober() as made:
        assert (await run(made, target(peer.port))).reason is Reason.ANSWERED
        result = await run_to_the_end(made, target(peer.port))
    assert result.reason is Reason.GARBAGE


async def test_a_late_answer_waiting_in_the_socket_does_not_touch_the_next_run() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.2", 0))
        peer.setblocking(False)  # noqa: FBT003 - its only argument
        port = peer.getsockname()[1]
        async with prober() as made:
            await run_to_the_end(made, target(port))
            first, client = peer.recvfrom(64)
            while True:
                try:
                    peer.recv(64)
                except BlockingIOError:
                    break
            peer.sendto(b"ANS " + first[4:], client)
            second = asyncio.create_task(run(made, target(port)))
            request = await eventually_async(lambda: _received(peer))
            peer.sendto(b"ANS " + request[4:], client)
            result = await second
    assert request != first
    assert result.reason is Reason.ANSWERED


def _received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(64)
    except BlockingIOError:
        return b""


async def test_what_waits_in_the_socket_from_before_does_not_name_the_next_timeout() -> None:
    results: list[Result] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.2", 0))
        whom = target(peer.getsockname()[1])
        async with prober() as made:
            await run_to_the_end(made, whom)
            (channel,) = made.engine.channels()
            for _ in range(20):
                peer.sendto(b"x", channel.sock.getsockname())
                made.begin(whom, deadline=time.monotonic() + 0.05, done=results.append)
                await eventually_async(lambda: results)
                if (result := results.pop()).reason is not Reason.OVERLOADED:
                    break
    assert result.reason is Reason.TIMED_OUT


async def test_an_oversized_datagram_is_not_even_shown_to_the_exchange() -> None:
    async with daemon(lambda request: [b"BUG " + request[4:] + bytes(9000)]) as peer, prober() as made:
        result = await run_to_the_end(made, target(peer.port))
    assert result.reason is Reason.GARBAGE
    assert "too long" in result.detail


async def test_what_another_host_sends_is_not_even_seen() -> None:
    """The socket is connected: a right answer from a wrong address does not reach the exchange."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.3", 0))
        async with daemon(silent) as peer, prober() as made:

            def let_the_stranger_answer(request: bytes) -> list[bytes]:
                for channel in made.engine.channels():
                    stranger.sendto(b"ANS " + request[4:], channel.sock.getsockname())
                return []

            peer.behaviour = let_the_stranger_answer
            result = await run_to_the_end(made, target(peer.port))
            assert made.engine.foreign_total == 0
    assert result.reason is Reason.TIMED_OUT


class Flooded(socket.socket):
    """Always has one more datagram that nobody asked for; more than 1000 are more than anybody should read in a row."""

    reads = 0

    def recv(self, *_: int) -> bytes:
        self.reads += 1
        assert self.reads < 1000
        return b"ANS stranger"


async def test_a_peer_that_floods_us_holds_neither_the_start_nor_the_end_of_a_run() -> None:
    async with daemon(silent) as peer:
        engine = DatagramEngine(clock=time.monotonic)
        for _ in range(20):
            with Flooded(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.connect(("127.0.0.2", peer.port))
                channel = Channel(sock, ip_address("127.0.0.2"))
                engine.add(channel)
                ended: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
                engine.begin(channel, AskExchange(os.urandom), deadline=time.monotonic() + 0.06, done=ended.set_result)
                assert channel.broken, "what is left of earlier runs would answer this one"
                result = await ended
                engine.remove(channel)
            if result.reason is not Reason.OVERLOADED:
                break
        engine.close()
    assert result.reason is Reason.GARBAGE
    assert result.detail.endswith("not for this exchange")


async def test_a_socket_that_was_flooded_after_a_run_is_given_up() -> None:
    def chatty(request: bytes) -> list[bytes]:
        return [b"ANS " + request[4:], *[b"ANS stranger"] * 200] if request[:3] == b"ASK" else []

    async with daemon(chatty) as peer, prober() as made:
        await run(made, target(peer.port))
        (first,) = made.engine.channels()
        result = await run(made, target(peer.port))
        assert made.engine.channels() != (first,)
        assert len(made.engine.channels()) == 1
    assert result.reason is Reason.ANSWERED


async def test_the_latest_step_is_what_is_repeated() -> None:
    def slow_learner(request: bytes) -> list[bytes]:
        asked_next = request.startswith(b"NEXT") and peer.verbs().count(b"NEXT") > 1
        return [b"ANS " + request[5:]] if asked_next else [b"MORE " + request[4:]] if request[:3] == b"ASK" else []

    async with daemon(silent) as peer, prober() as made:
        peer.behaviour = slow_learner
        result = await run(made, target(peer.port), within_s=3.0)
    assert result.reason is Reason.ANSWERED
    assert peer.verbs()[:3] == [b"ASK", b"NEXT", b"NEXT"]


async def test_a_refusal_of_an_earlier_clean_up_is_not_held_against_the_next_run() -> None:
    async with prober() as made:
        async with daemon() as peer:
            port = peer.port
            assert (await run(made, target(port))).reason is Reason.ANSWERED
        # Nobody listens now: what we say is refused, and the error waits on the socket.
        (channel,) = made.engine.channels()
        channel.sock.send(b"BYE")
        async with daemon(port=port):
            assert (await run(made, target(port))).reason is Reason.ANSWERED


async def test_a_refused_daemon_that_comes_back_passes_on_the_same_channel() -> None:
    port = free_port()
    async with prober() as made:
        assert (await run(made, target(port))).reason is Reason.REFUSED
        before = made.engine.channels()
        async with daemon(port=port):
            assert (await run(made, target(port))).reason is Reason.ANSWERED
        assert made.engine.channels() == before


async def test_a_daemon_that_dies_while_being_asked_is_refused_by_the_repetition() -> None:
    async with daemon(silent) as peer, prober() as made:
        asked = asyncio.create_task(run(made, target(peer.port), within_s=0.6))
        await eventually_async(lambda: peer.verbs() == [b"ASK"])
        peer.close()
        result = await asked
    assert result.reason in {Reason.REFUSED, Reason.OVERLOADED}


async def test_cancellation_says_goodbye_and_frees_the_channel() -> None:
    async with daemon(silent) as peer, prober() as made:
        asked = asyncio.create_task(run(made, target(peer.port), within_s=60.0))
        await eventually_async(lambda: peer.verbs() == [b"ASK"])
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await eventually_async(lambda: peer.verbs()[-1] == b"BYE")
        peer.behaviour = answer
        assert (await run(made, target(peer.port))).reason is Reason.ANSWERED


async def test_closing_says_goodbye_to_everybody() -> None:
    async with daemon(silent) as peer, daemon(silent, address="127.0.0.3") as other:
        async with prober() as made:
            for number, each in enumerate((peer, other)):
                address = f"127.0.0.{number + 2}"
                made.begin(
                    target(each.port, address=address, backend=number),
                    deadline=time.monotonic() + 60,
                    done=lambda _: pytest.fail("no result is due"),
                )
        await eventually_async(lambda: peer.verbs() == [b"ASK", b"BYE"] == other.verbs())


class _JumpingClock:
    """A monotonic clock that a test can move forward, as if the host had been too busy to run us."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


async def test_a_timeout_noticed_too_late_is_our_own_fault() -> None:
    clock = _JumpingClock()
    async with daemon(silent) as peer, prober(clock) as made:
        asked = asyncio.create_task(made.run(target(peer.port), deadline=clock() + 0.5))
        await eventually_async(lambda: peer.verbs() == [b"ASK"])
        clock.ahead_s = 5.0
        result = await asked
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.OVERLOADED)


async def test_an_answer_that_came_in_time_passes_however_late_we_are() -> None:
    """Behind a stranger's datagram, so that one look at the socket does not find it."""
    clock = _JumpingClock()
    results = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.2", 0))
        async with prober(clock) as made:
            made.begin(target(peer.getsockname()[1]), deadline=clock() + 0.01, done=results.append)
            request, client = peer.recvfrom(64)
            peer.sendto(b"x", client)
            peer.sendto(b"x", client)
            peer.sendto(b"ANS " + request[4:], client)
            clock.ahead_s = 5.0
            await eventually_async(lambda: results)
    assert results[0].reason is Reason.ANSWERED


async def test_a_bug_of_an_exchange_says_nothing_about_the_backend() -> None:
    async with daemon(lambda _: [b"BUG !"]) as peer, prober() as made:
        result = await run(made, target(peer.port))
        await eventually_async(lambda: peer.verbs()[-1] == b"BYE")
    assert (result.outcome, result.reason) == (Outcome.UNKNOWN, Reason.PROBE_ERROR)
    assert "RuntimeError" in result.detail


async def test_a_factory_that_fails_says_nothing_about_the_backend() -> None:
    def broken(*_: object, **__: object) -> AskExchange:
        raise ValueError("no such identity")

    made = DatagramProber(broken, clock=time.monotonic, entropy=os.urandom)
    try:
        result = await run(made, target(free_port()))
    finally:
        made.close()
    assert (result.reason, result.detail) == (Reason.PROBE_ERROR, "ValueError: no such identity")


async def test_a_method_of_another_kind_says_nothing_about_the_backend() -> None:
    whom = Target(key=ProbeKey(1, "tcp"), method=Tcp(port=1), address=target(1).address)
    async with prober() as made:
        assert (await run(made, whom)).reason is Reason.PROBE_ERROR


async def test_a_source_address_that_is_not_ours_says_nothing_about_the_backend() -> None:
    async with prober() as made:
        result = await run(made, target(free_port(), source="192.0.2.77"))
    assert (result.reason, result.detail.partition(":")[0]) == (Reason.PROBE_ERROR, "EADDRNOTAVAIL")


async def test_the_source_address_is_used() -> None:
    async with daemon(silent) as peer, prober() as made:
        whom = target(peer.port, source="127.0.0.9")
        made.begin(whom, deadline=time.monotonic() + 60, done=lambda _: None)
        seen = [channel.local for channel in made.engine.channels()]
    assert seen == [whom.source]


async def test_a_socket_that_the_kernel_refuses_is_replaced_for_the_next_run() -> None:
    class TooLong(AskExchange):
        def start(self) -> bytes:
            return bytes(70000)

    kinds = [TooLong, AskExchange]
    made = DatagramProber(
        lambda _, *, local, remote, entropy: kinds.pop(0)(entropy),  # noqa: ARG005 - the signature of a factory
        clock=time.monotonic,
        entropy=os.urandom,
    )
    try:
        async with daemon() as peer:
            assert (await run(made, target(peer.port))).detail.startswith("EMSGSIZE")
            (broken,) = made.engine.channels()
            assert (await run(made, target(peer.port))).reason is Reason.ANSWERED
            assert broken not in made.engine.channels()
    finally:
        made.close()


async def test_the_same_probe_does_not_run_twice_at_once() -> None:
    async with daemon(silent) as peer, prober() as made:
        made.begin(target(peer.port), deadline=time.monotonic() + 60, done=lambda _: None)
        result = await run(made, target(peer.port))
    assert result.reason is Reason.PROBE_ERROR


async def test_thousands_of_runs_leave_no_descriptor_behind() -> None:
    gc.collect()
    before = open_descriptors()
    async with daemon() as peer, daemon(lambda _: [b"x"], address="127.0.0.3") as rude, prober() as made:
        nobody = free_port()
        for _ in range(1000):
            assert (await run(made, target(peer.port))).reason is Reason.ANSWERED
            assert (await run(made, target(nobody, backend=2))).reason is Reason.REFUSED
        await run(made, target(rude.port, address="127.0.0.3", backend=3), within_s=0.01)
        assert len(made.engine.channels()) == 3
    assert open_descriptors() <= before


def test_repetitions_are_evenly_apart() -> None:
    """Sans real time: the moments at which one unanswered run acts."""
    moments: list[float] = []

    async def watch() -> None:
        async with daemon(silent) as peer, prober() as made:
            peer.behaviour = lambda _: moments.append(time.monotonic()) or ()
            await run(made, target(peer.port), within_s=0.6)

    asyncio.run(watch())
    gaps = [later - earlier for earlier, later in pairwise(moments[:3])]
    assert all(gap > 0.15 for gap in gaps), gaps
