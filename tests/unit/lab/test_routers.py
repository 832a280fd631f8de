"""Answers of BIRD 2.0.12, as captured."""

from lab.routers import BirdRoute, parse_routes, parse_sessions

PROTOCOLS = """\
BIRD 2.0.12 ready.
Access restricted
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     04:45:13.931
kernel1    Kernel     master4    up     04:45:13.931
pop1       BGP        ---        up     04:45:14.501  Established
transit    BGP        ---        start  04:45:13.932  Active        Socket: Connection refused
"""
ROUTES = """\
BIRD 2.0.12 ready.
Access restricted
Table master4:
198.51.100.0/24      unicast [r1 04:45:14.894] * (100) [AS64496i]
\tvia 192.0.2.10 on eth1
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.as_path: 64497 64496
\tBGP.next_hop: 192.0.2.10
\tBGP.med: 50
\tBGP.local_pref: 0
\tBGP.community: (65535,0) (64496,7)
                     unicast [r2 04:45:14.930] (100) [AS64496i]
\tvia 192.0.2.14 on eth2
\tType: BGP univ
\tBGP.origin: IGP
\tBGP.as_path: 64498 64496 64496
\tBGP.next_hop: 2001:db8:0:1::1 fe80::1
\tBGP.local_pref: 100
"""


def test_only_bgp_rows_count_and_only_established_is_true() -> None:
    assert parse_sessions(PROTOCOLS) == {"pop1": True, "transit": False}


def test_every_path_is_read_with_its_attributes() -> None:
    assert parse_routes(ROUTES) == (
        BirdRoute(
            session="r1",
            best=True,
            as_path=(64497, 64496),
            next_hop="192.0.2.10",
            local_preference=0,
            med=50,
            communities=((65535, 0), (64496, 7)),
        ),
        BirdRoute(
            session="r2",
            best=False,
            as_path=(64498, 64496, 64496),
            next_hop="2001:db8:0:1::1",
            local_preference=100,
            med=None,
            communities=(),
        ),
    )


def test_no_route_is_no_path() -> None:
    assert parse_routes("BIRD 2.0.12 ready.\nNetwork not found\n") == ()
