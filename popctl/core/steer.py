"""Where a packet goes and why: the balancer's rules as a pure function, for `explain`, for the memory twin, for tests.

It follows the rule set of `popctl.wire.nft` chain by chain and must agree with the kernel packet by packet. A load
past the end of a packet makes a kernel rule not match; here it makes `_Bytes.field` return None.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from popctl.core.affinity import Memory, client_key
from popctl.core.jhash import row_of
from popctl.core.rows import eligible
from popctl.model.balancer import (
    AffinityKey,
    AffinityMap,
    BalancedService,
    HashKey,
    Learnt,
    Packet,
    Steering,
    Tables,
    Unmatched,
)
from popctl.model.reason import Reason

_UDP, _ICMP, _ICMPV6, _NATT_PORT = 17, 1, 58, 4500
_UDP_HEADER, _IKE_HEADER, _MARKER = 8, 28, 4
_KEEPALIVE_LENGTH = _UDP_HEADER + 1
_SHORTEST_NATT = _UDP_HEADER + 8
_INITIATOR_FLAG = 0x08
_V4_ERRORS = frozenset({3, 11, 12})
_V6_ERRORS = frozenset({1, 2, 3, 4})


def steer(tables: Tables, packet: Packet, memory: Memory) -> Steering:
    """Return where `packet` goes when it arrives now, and what the balancer learns from it."""
    service = next((s for s in tables.services if packet.destination in s.vips), None)
    if service is None:
        return Steering(reason=Reason.NOT_A_VIP, rule="not-a-vip", why=(f"{packet.destination} is no VIP",))
    return _Walk(tables=tables, service=service, packet=packet, memory=memory).service_chain()


@dataclass
class _Walk:
    """One packet on its way through the chains of its service."""

    tables: Tables
    service: BalancedService
    packet: Packet
    memory: Memory
    why: list[str] = field(default_factory=list)

    # Fields of the packet.

    def number(self, bit: int, length: int) -> int | None:
        """Read `@th,bit,length`; None past the end of the packet."""
        data, start, end = self.packet.transport, bit // 8, (bit + length + 7) // 8
        if end > len(data):
            return None
        return (int.from_bytes(data[start:end], "big") >> (end * 8 - bit - length)) & ((1 << length) - 1)

    def raw(self, bit: int, length: int) -> bytes | None:
        """Read whole bytes of the transport header."""
        value = self.number(bit, length)
        return None if value is None else value.to_bytes(length // 8, "big")

    def address(self, kind: AffinityMap, address: bytes | None = None) -> AffinityKey:
        return AffinityKey(kind, self.service.name, address or self.packet.source.packed)

    def client(self, address: bytes | None = None, port: bytes | None = None) -> AffinityKey:
        return client_key(self.service.name, self.packet, address, port)

    # Ends.

    def to(self, backend: int, reason: Reason, rule: str, **more: object) -> Steering:
        return Steering(
            reason=reason,
            service=self.service.name,
            backend=backend,
            rule=rule,
            why=tuple(self.why),
            **more,  # type: ignore[arg-type]  # row, rank and learns, as `Steering` types them
        )

    def drop(self, reason: Reason) -> Steering:
        return Steering(reason=reason, service=self.service.name, rule=f"drop-{reason}", why=tuple(self.why))

    # Chains.

    def service_chain(self) -> Steering:
        match self.packet.protocol:
            case 50:
                return self.native_esp()
            case 17:
                return self.udp()
            case protocol if protocol == (_ICMP if self.packet.version == 4 else _ICMPV6):  # noqa: PLR2004
                return self.icmp()
        return self.other()

    def udp(self) -> Steering:
        match self.number(16, 16):
            case 500:
                return self.ike(0)
            case 4500:
                return self.natt()
            case 1701:
                self.why.append("L2TP outside IPsec")
                return self.source() if self.service.plain_l2tp else self.drop(Reason.UNPROTECTED_L2TP)
        return self.other()

    def natt(self) -> Steering:
        length = self.number(32, 16)
        if length == _KEEPALIVE_LENGTH:
            return self.keepalive()
        if length is not None and length < _SHORTEST_NATT:
            return self.drop(Reason.MALFORMED)
        first = self.number(64, 32)
        if first == 0:
            self.why.append("non-ESP marker: IKE on UDP 4500")
            return self.ike(_MARKER)
        return self.esp(first, "esp-in-udp", self.client())

    def keepalive(self) -> Steering:
        """Follow the memory, and keep the client in it: an idle client says nothing else."""
        client = self.client()
        known = self.remembered(client)
        self.why.append("NAT keepalive (RFC 3948)")
        if known is None:
            return self.drop(Reason.KEEPALIVE)
        self.why.append(f"labelled packets of this client went to backend {known}; it stays remembered there")
        return self.to(known, Reason.AFFINITY, "keepalive", learns=self.keep(client, known))

    def native_esp(self) -> Steering:
        return self.esp(self.number(0, 32), "esp-native", self.address(AffinityMap.ADDRESS))

    def esp(self, spi: int | None, rule: str, learn: AffinityKey) -> Steering:
        labels = self.service.labels
        if spi is not None:
            self.why.append(f"ESP SPI {spi:#010x}")
            for (first, last), backend in labels.esp.items():
                if first <= spi <= last:
                    self.why.append(f"in slice {first:#010x}-{last:#010x}")
                    return self.to(backend, Reason.ESP_SLICE, rule, learns=self.keep(learn, backend))
            if any(first <= spi <= last for first, last in labels.esp_plans):
                self.why.append("in the plan, in no slice of this service here")
                return self.drop(Reason.STRAY)
        return self.unlabelled()

    def ike(self, shift: int) -> Steering:
        bits = shift * 8
        length = self.number(32, 16)
        if length is not None and length < _UDP_HEADER + shift + _IKE_HEADER:
            self.why.append(f"UDP length {length} is too short for an IKE header")
            return self.drop(Reason.MALFORMED)
        if self.number(128 + bits, 64) == 0:
            self.why.append("responder SPI 0: first message of an IKE SA")
            return self.new(shift)
        candidates = self.candidates(bits)
        labels = self.service.labels
        for role, top in candidates:
            if top in labels.ike:
                backend = labels.ike[top]
                self.why.append(f"label {top:#010x} in the {role} SPI")
                native = self.address(AffinityMap.ADDRESS)
                known = native in self.memory
                learns = self.learn(self.client(), backend) if shift else self.learn(native, backend) if known else ()
                return self.to(backend, Reason.IKE_LABEL, f"{role}-label", learns=learns)
        for role, top in candidates if labels.ike else ():
            if any(top & mask == prefix for prefix, mask in labels.prefixes):
                self.why.append(f"{role} SPI {top:#010x}... is labelled, for no backend of this service here")
                return self.drop(Reason.STRAY)
        return self.unlabelled()

    def candidates(self, bits: int) -> list[tuple[str, int]]:
        """Return the SPIs that may be the server's, surest first, as (role, top 32 bits).

        IKEv2 says with the I flag who started the SA: after a rekey by the server its SPI is the initiator's
        (RFC 7296 section 3.1). IKEv1 does not say, so both are tried.
        """
        version, flags = self.number(200 + bits, 4), self.number(216 + bits, 8)
        responder, initiator = self.number(128 + bits, 32), self.number(64 + bits, 32)
        if responder is None or initiator is None or version is None:
            return []
        if version == 1:
            return [("responder", responder), ("initiator", initiator)]
        if flags is None:
            return []
        return [("responder", responder)] if flags & _INITIATOR_FLAG else [("initiator", initiator)]

    def new(self, shift: int) -> Steering:
        known = self.remembered(self.client() if shift else self.address(AffinityMap.ADDRESS))
        if known in self.tables.alive and known is not None:
            self.why.append(f"labelled packets of this client went to backend {known}")
            return self.to(known, Reason.AFFINITY, "affinity")
        if self.service.key is not HashKey.SPI:
            return self.source()
        spi = self.raw(64 + shift * 8, 64)
        if spi is None:
            return self.drop(Reason.MALFORMED)
        self.why.append(f"hash of initiator SPI {spi.hex()}")
        return self.hashed(spi, Reason.NEW_SA, "spi-hash")

    def unlabelled(self) -> Steering:
        self.why.append("no label")
        return self.source() if self.service.unlabelled is Unmatched.SOURCE else self.drop(Reason.UNLABELLED)

    def other(self) -> Steering:
        self.why.append("neither IKE nor ESP nor L2TP")
        return self.source() if self.service.other is Unmatched.SOURCE else self.drop(Reason.NOT_SERVED)

    def source(self) -> Steering:
        """Follow the source address (or what the service's key says), where it went before if that is known."""
        ports = self.service.key in (HashKey.SOURCE_IP_PORT, HashKey.FIVE_TUPLE) and self.packet.protocol == _UDP
        if ports:
            return self.by_ports()
        address = self.packet.source.packed
        key = self.address(AffinityMap.SOURCE)
        known = self.remembered(key)
        if known in self.tables.alive and known is not None:
            self.why.append(f"this source went to backend {known} before")
            return self.to(known, Reason.SOURCE_HASH, "source-memory", learns=self.keep(key, known))
        self.why.append(f"hash of source {self.packet.source}")
        return self.hashed(address, Reason.SOURCE_HASH, "source-hash", key)

    def by_ports(self) -> Steering:
        source = self.packet.source.packed
        parts: list[bytes | None] = [source, self.raw(0, 16)]
        if self.service.key is HashKey.FIVE_TUPLE:
            protocol = bytes([self.packet.protocol])
            parts = [source, self.packet.destination.packed, protocol, self.raw(0, 16), self.raw(16, 16)]
        key = [part for part in parts if part is not None]
        if len(key) < len(parts):
            return self.drop(Reason.NO_BACKEND)
        self.why.append(f"hash of {self.service.key}")
        # A concatenation in nftables pads every part to four bytes.
        return self.hashed(b"".join(p + bytes(-len(p) % 4) for p in key), Reason.SOURCE_HASH, "port-hash")

    def icmp(self) -> Steering:
        v4 = self.packet.version == 4  # noqa: PLR2004 - IP version
        kind = self.number(0, 8)
        if kind is not None and kind not in (_V4_ERRORS if v4 else _V6_ERRORS):
            return self.other()
        self.why.append("ICMP error about a packet of a backend")
        # (version and header length), protocol, destination, source port, destination port of the quoted packet
        plain = self.number(64, 8) == 0x45 if v4 else self.number(64, 4) == 6  # noqa: PLR2004 - IP version
        protocol = self.number(136 if v4 else 112, 8)
        client = self.raw(192, 32) if v4 else self.raw(256, 128)
        ports = 224 if v4 else 384
        if plain and client is not None:
            port = self.raw(ports + 16, 16)
            if protocol == _UDP and self.number(ports, 16) == _NATT_PORT and port is not None:
                known = self.remembered(self.client(client, port))
                if known is not None:
                    return self.to(known, Reason.ICMP_QUOTE, "quote-address-port")
            for memory in (AffinityMap.ADDRESS, AffinityMap.SOURCE):
                known = self.remembered(self.address(memory, client))
                if known is not None:
                    return self.to(known, Reason.ICMP_QUOTE, f"quote-{memory}")
        if plain and self.service.key is HashKey.SOURCE_IP:
            return self.hashed(client, Reason.ICMP_QUOTE, "quote-hash") if client else self.drop(Reason.NO_BACKEND)
        self.why.append("no one backend can be named: copied to all")
        return Steering(
            reason=Reason.REPLICATED, service=self.service.name, rule="quote-replicate", why=tuple(self.why)
        )

    def hashed(self, key: bytes, reason: Reason, rule: str, learn: AffinityKey | None = None) -> Steering:
        rows = self.service.rows
        if not rows.count:
            return self.drop(Reason.NO_BACKEND)
        number = row_of(key, self.service.seed, rows.count)
        found = eligible(rows, number, self.tables.alive - self.tables.draining)
        self.why.append(f"row {number}: " + " > ".join(self.name(b) for b in rows.row(number)[:8]))
        if found is None:
            return self.drop(Reason.NO_BACKEND)
        backend, rank = found
        learns = self.learn(learn, backend) if learn else ()
        return self.to(backend, reason, rule, row=number, rank=rank, learns=learns)

    # Memory.

    def remembered(self, key: AffinityKey) -> int | None:
        return self.memory.get(key) if self.service.affinity else None

    def learn(self, key: AffinityKey, backend: int) -> tuple[Learnt, ...]:
        return (Learnt(key, backend, replaces=True),) if self.service.affinity else ()

    def keep(self, key: AffinityKey, backend: int) -> tuple[Learnt, ...]:
        return (Learnt(key, backend, replaces=False),) if self.service.affinity else ()

    def name(self, backend: int) -> str:
        state = "" if backend in self.tables.alive else " down"
        state += " draining" if backend in self.tables.draining else ""
        forward = self.tables.backends.get(backend)
        return f"{forward.name if forward else backend}{state}"
