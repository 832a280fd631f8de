"""What differs between IPv4 and IPv6 in the rules of a service: expressions of nftables and offsets in bits.

`@nh` counts from the IP header, `@th` from the transport header; of an ICMP error that is the ICMP header, and the
quoted packet begins 64 bits after it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between IPv4 and IPv6."""

    version: int
    source: str
    destination: str
    raw_source: str
    client: str
    """Source port and address, raw, so that quoted packets can be looked up too; the port is where it stands without
    IP options. Of IPv6 the third word is left out and the port comes first: nft 1.0.6 miscompiles learnt keys that are
    longer than 16 bytes, aborting or, silently, writing the mark over the end of the key."""
    icmp: str
    errors: str
    quote: str
    """The quoted IP header has no options."""
    quote_protocol: int
    quote_source: str
    """The client in a quoted packet: its destination."""
    quote_client: str
    """Port and address of the client in a quoted packet, as in `client`."""
    quote_port: int
    """The VIP's port in a quoted packet."""


FAMILIES = {
    4: Family(
        version=4,
        source="ip saddr",
        destination="ip daddr",
        raw_source="@nh,96,32",
        client="@nh,160,16 . @nh,96,32",
        icmp="icmp",
        errors="icmp type != { 3, 11, 12 }",
        quote="@th,64,8 0x45",
        quote_protocol=136,
        quote_source="@th,192,32",
        quote_client="@th,240,16 . @th,192,32",
        quote_port=224,
    ),
    6: Family(
        version=6,
        source="ip6 saddr",
        destination="ip6 daddr",
        raw_source="@nh,64,128",
        client="@nh,320,16 . @nh,64,64 . @nh,160,32",
        icmp="ipv6-icmp",
        errors="icmpv6 type != { 1, 2, 3, 4 }",
        quote="@th,64,4 6",
        quote_protocol=112,
        quote_source="@th,256,128",
        quote_client="@th,400,16 . @th,256,64 . @th,352,32",
        quote_port=384,
    ),
}
