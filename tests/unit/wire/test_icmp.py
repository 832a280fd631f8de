"""ICMP echo: the bytes of both versions, and what is not our reply."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.model.observation import Outcome
from popctl.wire.errors import WireError
from popctl.wire.exchange import IGNORED
from popctl.wire.icmp import EchoExchange, checksum

IPV4_HEADER = bytes.fromhex("4500004400000000400100007f0000017f000001")


def numbered(count: int) -> bytes:
    return bytes(range(count))


def exchange(*, ip_version: int = 4, ip_header: bool = False) -> EchoExchange:
    return EchoExchange(ip_version=ip_version, entropy=numbered, ip_header=ip_header)


def reply_to(request: bytes) -> bytes:
    """Answer as a host does: another type, a new checksum, everything else as it came."""
    if request[0] == 128:
        return bytes((129, 0)) + request[2:]
    unsummed = bytes((0, 0, 0, 0)) + request[4:]
    return unsummed[:2] + checksum(unsummed).to_bytes(2) + unsummed[4:]


def test_the_request_has_the_bytes_of_rfc_792() -> None:
    request = exchange().start()
    assert request[:2] == b"\x08\x00"
    assert request[4:] == bytes.fromhex("0001 0001") + numbered(32)
    assert checksum(request) == 0


def test_the_icmpv6_request_leaves_the_checksum_to_the_kernel() -> None:
    assert exchange(ip_version=6).start() == bytes.fromhex("80 00 0000 0001 0001") + numbered(32)


def test_the_checksum_is_that_of_a_captured_echo_request() -> None:
    """`ping -c1 -p 00 -s 4`, identifier 0x1c46, sequence 1."""
    assert checksum(bytes.fromhex("08 00 dbb8 1c46 0001 00000000")) == 0


@pytest.mark.parametrize("ip_version", [4, 6])
def test_the_reply_to_this_request_passes(ip_version: int) -> None:
    asked = exchange(ip_version=ip_version)
    verdict = asked.receive(reply_to(asked.start())).verdict
    assert verdict is not None
    assert verdict.outcome is Outcome.PASS


def test_a_raw_ipv4_socket_gives_the_ip_header_too() -> None:
    asked = exchange(ip_header=True)
    assert asked.receive(IPV4_HEADER + reply_to(asked.start())).verdict is not None


def test_the_identifier_may_be_the_kernels() -> None:
    asked = EchoExchange(ip_version=6, entropy=numbered, ip_header=False)
    reply = bytearray(reply_to(asked.start()))
    reply[4:6] = b"\xab\xcd"
    assert asked.receive(bytes(reply)).verdict is not None


def test_our_own_request_and_the_reply_to_another_one_are_ignored() -> None:
    asked = exchange()
    other = EchoExchange(ip_version=4, entropy=os.urandom, ip_header=False)
    assert asked.receive(asked.start()) == IGNORED
    assert asked.receive(reply_to(other.start())) == IGNORED


def test_a_longer_payload_is_not_our_reply() -> None:
    asked = exchange(ip_version=6)
    assert asked.receive(reply_to(asked.start()) + b"\0") == IGNORED


def test_a_damaged_reply_is_garbage() -> None:
    asked = exchange()
    reply = bytearray(reply_to(asked.start()))
    reply[-1] ^= 1
    with pytest.raises(WireError, match="checksum"):
        asked.receive(bytes(reply))


def test_every_cut_is_garbage_or_ignored() -> None:
    for ip_header in (False, True):
        asked = exchange(ip_header=ip_header)
        whole = (IPV4_HEADER if ip_header else b"") + reply_to(asked.start())
        for length in range(len(whole)):
            try:
                assert asked.receive(whole[:length]) == IGNORED
            except WireError:
                continue


KINDS = tuple((version, header) for version in (4, 6) for header in (False, True))
many = settings(max_examples=10_000 // len(KINDS))


@many
@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_wire_error(datagram: bytes) -> None:
    for version, header in KINDS:
        try:
            turn = exchange(ip_version=version, ip_header=header).receive(datagram)
        except WireError:
            continue
        assert turn == IGNORED


@many
@given(st.floats(0, 1), st.binary(max_size=8), st.integers(0, 8))
def test_damaged_replies_raise_nothing_but_wire_error_and_pass_only_with_our_payload(
    at: float, noise: bytes, cut: int
) -> None:
    for version, header in KINDS:
        asked = exchange(ip_version=version, ip_header=header)
        honest = (IPV4_HEADER if header else b"") + reply_to(asked.start())
        place = round(at * len(honest))
        damaged = honest[:place] + noise + honest[place + cut :]
        with suppress(WireError):
            if asked.receive(damaged).verdict:
                # Identifier and checksum are the kernel's, sequence number and payload are ours.
                assert damaged.endswith(honest[-34:])


def test_nothing_needs_to_be_cleaned_up() -> None:
    assert exchange().abandon() == ()
