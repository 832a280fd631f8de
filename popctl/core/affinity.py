"""The balancer's memory of clients, as the rules keep it: who is remembered under which key, and what replaces what."""

from __future__ import annotations

from collections.abc import Mapping

from popctl.model.balancer import AffinityKey, AffinityMap, Learnt, Packet

_IPV4 = 4
_IPV6_BYTES = 16

Memory = Mapping[AffinityKey, int]
"""What the balancer remembers: client -> backend id."""


def remember(memory: Memory, learns: tuple[Learnt, ...]) -> dict[AffinityKey, int]:
    """Return the memory after a packet."""
    new = dict(memory)
    for key, backend, replaces in learns:
        if replaces or key not in new:
            new[key] = backend
    return new


def client_key(service: str, packet: Packet, address: bytes | None = None, port: bytes | None = None) -> AffinityKey:
    """Name a client behind NAT, by default the packet's sender; its port is read where it stands without IP options.

    So the rules do, and they leave the third word of an IPv6 address out.
    """
    at = 20 if packet.version == _IPV4 else 40
    where = address or packet.source.packed
    short = where[:8] + where[12:] if len(where) == _IPV6_BYTES else where
    return AffinityKey(AffinityMap.ADDRESS_PORT, service, short, port or packet.network[at : at + 2])
