"""IKE codecs and conversations against whatever may come: only `WireError` leaves, and what is written can be read."""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.observation import Outcome
from popctl.model.probe import IkeDeep, IkeLiveness
from popctl.wire.errors import WireError
from popctl.wire.exchange import Exchange
from popctl.wire.ike import identity, v1, v2
from popctl.wire.ike.message import HEADER, Header, Payload, decode_header, decode_payloads, encode_payloads, message_of
from tests.unit.wire.conversations import Conversation, recorded

RECORDED = recorded("ike.json")
# Those that need no Diffie-Hellman to start, so that ten thousand runs take seconds.
QUICK = tuple(it for name, it in RECORDED.items() if "live" in name)
many = settings(max_examples=10_000, deadline=None)
some = settings(max_examples=300, deadline=None)

u8, u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
spis = st.binary(min_size=8, max_size=8)
payloads = st.builds(Payload, st.integers(1, 0xFF), st.binary(max_size=40), st.booleans())
transforms_v2 = st.builds(v2.Transform, u8, u16, st.none() | u16)
proposals = st.builds(
    v2.Proposal, u8, st.lists(transforms_v2, min_size=1, max_size=6).map(tuple), u8, st.binary(max_size=8)
)
transforms_v1 = st.builds(
    v1.Transform,
    u8,
    st.dictionaries(st.integers(0, 0x7FFF), st.integers(0, 0xFFFFFFFF), max_size=8).map(lambda it: tuple(it.items())),
    u8,
)
DECODERS = (
    decode_header,
    v2.decode,
    v2.decode_sa,
    v2.decode_ke,
    v2.decode_notify,
    v1.decode_sa,
    v1.decode_notification,
    identity.decode_identity,
    lambda body: decode_payloads(33, body),
    lambda body: decode_payloads(8, body, padded=True),
)


class Step(NamedTuple):
    """One answer of a recorded conversation, and the exchange that waits for it."""

    it: Conversation
    exchange: Exchange
    honest: bytes

    def waiting(self) -> Exchange:
        """Return an exchange that waits for the answer, whatever became of others."""
        fresh = copy.copy(self.exchange)
        own = getattr(fresh, "__dict__", {})
        own.update({name: copy.copy(value) for name, value in own.items() if isinstance(value, list | set)})
        return fresh

    @property
    def marker(self) -> int:
        """How many bytes stand before the IKE message."""
        return 4 if self.it.name.endswith("4500") else 0


def steps(it: Conversation) -> Iterator[Step]:
    exchange = it.exchange()
    exchange.start()
    for honest in it.received:
        step = Step(it, exchange, honest)
        yield step._replace(exchange=step.waiting())
        exchange.receive(honest)


CONVERSED = (
    *QUICK,
    *(RECORDED[f"v{version}-deep-{what}"] for version in (1, 2) for what in ("ecp256", "wrong-psk")),
    # Groups of 2,048 bits take their time: one of each version.
    RECORDED["v1-deep-4500"],
    RECORDED["v2-deep-cookie"],
)
STEPS = tuple(step for it in CONVERSED for step in steps(it))
FEWEST = min(sum(step.it.method.version == version for step in STEPS) for version in (1, 2))
"""Packets of one version that one draw damages."""


class Damage(NamedTuple):
    """What happens to a datagram on its way. Places are shares of its length."""

    bytes_at: list[tuple[float, int]]
    cut: float
    tail: bytes
    length_made_right: bool

    def to(self, honest: bytes, marker: int) -> bytes:
        datagram = bytearray(honest)
        for place, value in self.bytes_at:
            datagram[int(place * (len(honest) - 1))] = value
        datagram = datagram[: round(self.cut * len(honest))] + self.tail
        if len(datagram) >= marker + HEADER.size and self.length_made_right:
            struct.pack_into(">I", datagram, marker + 24, len(datagram) - marker)
        return bytes(datagram)


damages = st.builds(
    Damage,
    st.lists(st.tuples(st.floats(0, 1), u8), max_size=4),
    st.just(1.0) | st.floats(0, 1),
    st.just(b"") | st.binary(max_size=12),
    st.booleans(),
)


@many
@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_wire_error(garbage: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(garbage)
        except WireError as error:
            assert len(error.found) <= 64  # noqa: PT017 - the error itself is under test


@settings(max_examples=-(-10_000 // FEWEST), deadline=None)
@given(damages)
def test_damaged_answers_raise_nothing_but_wire_error_and_never_leak_a_pass(damage: Damage) -> None:
    for step in STEPS:
        datagram = damage.to(step.honest, step.marker)
        exchange = step.waiting()
        if _verdict(exchange, datagram) is not Outcome.PASS:
            continue
        if isinstance(step.it.method, IkeDeep):
            assert _authenticated(step, datagram) == _authenticated(step, step.honest)
        else:
            at = step.marker
            assert datagram[at : at + 8] == exchange.start()[at : at + 8]
            assert datagram[at + 18] in {v1.Exchange.INFORMATIONAL, v2.Exchange.IKE_SA_INIT}


def _authenticated(step: Step, datagram: bytes) -> bytes:
    """Return the part of a last answer that is proven: in IKEv1 not the header, nor what fills the last block."""
    return datagram if step.it.method.version == 2 else datagram[step.marker + HEADER.size : -16]


@settings(max_examples=1250, deadline=None)
@given(st.lists(payloads, max_size=6), spis, u8, u8, u8, st.integers(0, 1))
def test_well_framed_nonsense_for_our_spi_passes_only_with_the_wanted_notification(
    chain: list[Payload], spi_r: bytes, version: int, kind: int, flags: int, message_id: int
) -> None:
    for step in STEPS:
        header = Header(step.honest[step.marker :][:8], spi_r, 0, version, kind, flags, message_id)
        if _verdict(step.waiting(), bytes(step.marker) + message_of(header, chain)) is Outcome.PASS:
            assert isinstance(step.it.method, IkeLiveness)
            wanted = b"\0\x18" if step.it.method.version == 1 else b"\0\x11"
            assert any(wanted in payload.body for payload in chain)


def _verdict(exchange: Exchange, datagram: bytes) -> Outcome | None:
    try:
        verdict = exchange.receive(datagram).verdict
    except WireError:
        return None
    return None if verdict is None else verdict.outcome


SEALED = tuple(
    step
    for step in STEPS
    if isinstance(step.it.method, IkeDeep) and _verdict(step.waiting(), step.honest) is Outcome.PASS
)


def test_every_kind_of_sealed_answer_is_touched() -> None:
    assert {step.it.method.version for step in SEALED} == {1, 2}


@many
@given(st.floats(0, 1), st.binary(min_size=1, max_size=200))
def test_sealed_answers_that_were_touched_never_pass(at: float, noise: bytes) -> None:
    for step in SEALED:
        begin = step.marker + HEADER.size
        # What IKEv1 pads with is not authenticated: leave its last block alone.
        end = len(step.honest) - (16 if step.it.method.version == 1 else 0)
        place = begin + int(at * (end - 1 - begin))
        change = noise[: end - place]
        touched = step.honest[:place] + change + step.honest[place + len(change) :]
        if touched != step.honest:
            assert _verdict(step.waiting(), touched) is not Outcome.PASS


@some
@given(spis, spis, u8, u8, u8, st.integers(0, 0xFFFFFFFF), st.lists(payloads, min_size=1, max_size=10))
def test_messages_survive_the_wire(
    spi_i: bytes, spi_r: bytes, version: int, kind: int, flags: int, message_id: int, chain: list[Payload]
) -> None:
    header = Header(spi_i, spi_r, chain[0].type, version, kind, flags, message_id)
    message = message_of(header, chain)
    assert decode_header(message) == header
    assert decode_payloads(header.next_payload, message[28:]) == tuple(chain)


@some
@given(st.lists(payloads, min_size=1, max_size=10), st.integers(1, 60))
def test_padding_after_a_chain_does_not_change_it(chain: list[Payload], size: int) -> None:
    body = encode_payloads(chain) + bytes(size)
    assert decode_payloads(chain[0].type, body, padded=True) == tuple(chain)


@some
@given(st.lists(proposals, min_size=1, max_size=5))
def test_ikev2_offers_survive_the_wire(offers: list[v2.Proposal]) -> None:
    assert v2.decode_sa(v2.encode_sa(offers)) == tuple(offers)


@some
@given(st.lists(transforms_v1, min_size=1, max_size=8))
def test_ikev1_offers_survive_the_wire(offers: list[v1.Transform]) -> None:
    assert v1.decode_sa(v1.encode_sa(offers)) == tuple(offers)


@some
@given(u16, st.binary(max_size=40), u8, st.binary(max_size=20))
def test_notifications_survive_the_wire(kind: int, data: bytes, protocol: int, spi: bytes) -> None:
    assert v2.decode_notify(v2.encode_notify(v2.Notify(kind, data, protocol, spi))) == (kind, data, protocol, spi)
    encoded = v1.encode_notification(v1.Notification(kind, spi, data, protocol))
    assert v1.decode_notification(encoded) == (kind, spi, data, protocol)
