"""IKE codecs and conversations against whatever may come: only `WireError` leaves, and what is written can be read."""

from __future__ import annotations

import copy
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.observation import Outcome
from popctl.wire.errors import WireError
from popctl.wire.exchange import Exchange
from popctl.wire.ike import identity, v1, v2
from popctl.wire.ike.message import Header, Payload, decode_header, decode_payloads, encode_payloads, message_of
from tests.unit.wire.conversations import Conversation, recorded

RECORDED = recorded("ike.json")
# Those that need no Diffie-Hellman to start, so that ten thousand runs take seconds.
QUICK = tuple(it for name, it in RECORDED.items() if "live" in name)
many = settings(max_examples=2500, deadline=None)
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


@st.composite
def damaged_answers(draw: st.DrawFn) -> tuple[Conversation, bytes]:
    """Draw a recorded answer with some bytes replaced, cut or added, its length field made right again or not."""
    it = draw(st.sampled_from(QUICK))
    datagram = bytearray(draw(st.sampled_from(it.received)))
    for _ in range(draw(st.integers(0, 4))):
        datagram[draw(st.integers(0, len(datagram) - 1))] = draw(u8)
    cut = draw(st.integers(0, len(datagram)) | st.just(len(datagram)))
    datagram = datagram[:cut] + draw(st.binary(max_size=12))
    at = 4 if it.name.endswith("4500") else 0
    if len(datagram) >= at + 28 and draw(st.booleans()):
        struct.pack_into(">I", datagram, at + 24, len(datagram) - at)
    return it, bytes(datagram)


@many
@given(st.binary(max_size=300))
def test_garbage_raises_nothing_but_wire_error(garbage: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(garbage)
        except WireError as error:
            assert len(error.found) <= 64  # noqa: PT017 - the error itself is under test


@many
@given(damaged_answers())
def test_damaged_answers_raise_nothing_but_wire_error_and_never_leak_a_pass(case: tuple[Conversation, bytes]) -> None:
    it, datagram = case
    exchange = it.exchange()
    try:
        verdict = exchange.receive(datagram).verdict
    except WireError:
        verdict = None
    if verdict is not None and verdict.outcome is Outcome.PASS:
        at = 4 if it.name.endswith("4500") else 0
        assert datagram[at : at + 8] == exchange.start()[at : at + 8]
        assert datagram[at + 18] in {v1.Exchange.INFORMATIONAL, v2.Exchange.IKE_SA_INIT}


@many
@given(st.sampled_from(QUICK), st.lists(payloads, max_size=6), spis, u8, u8, u8, st.integers(0, 1))
def test_well_framed_nonsense_for_our_spi_passes_only_with_the_wanted_notification(
    it: Conversation, chain: list[Payload], spi_r: bytes, version: int, kind: int, flags: int, message_id: int
) -> None:
    exchange = it.exchange()
    at = 4 if it.name.endswith("4500") else 0
    header = Header(exchange.start()[at : at + 8], spi_r, 0, version, kind, flags, message_id)
    verdict = _verdict(exchange, bytes(at) + message_of(header, chain))
    if verdict is Outcome.PASS:
        wanted = b"\0\x18" if it.method.version == 1 else b"\0\x11"
        assert any(wanted in payload.body for payload in chain)


def _almost_done(it: Conversation) -> Exchange:
    exchange = it.exchange()
    for datagram in it.received[:-1]:
        exchange.receive(datagram)
    return exchange


SEALED = {name: RECORDED[name] for name in ("v1-deep-500", "v2-deep-500")}
ALMOST_DONE = {name: _almost_done(it) for name, it in SEALED.items()}


def _verdict(exchange: Exchange, datagram: bytes) -> Outcome | None:
    try:
        verdict = exchange.receive(datagram).verdict
    except WireError:
        return None
    return None if verdict is None else verdict.outcome


@settings(max_examples=2500, deadline=None)
@given(st.sampled_from(sorted(SEALED)), st.binary(max_size=200), st.data())
def test_sealed_answers_that_were_touched_never_pass(name: str, noise: bytes, data: st.DataObject) -> None:
    honest = SEALED[name].received[-1]
    # What IKEv1 pads with is not authenticated: leave its last block alone.
    end = len(honest) - (16 if name.startswith("v1") else 0)
    place = data.draw(st.integers(28, end - 1))
    touched = honest[:place] + noise[: end - place] + honest[place + len(noise[: end - place]) :]
    if touched != honest:
        assert _verdict(copy.copy(ALMOST_DONE[name]), touched) is not Outcome.PASS


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
