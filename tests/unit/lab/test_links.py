"""What is said to the kernel about links."""

from lab.links import address_commands, loss_rules, route_commands

LISTING = """\
default via 192.0.2.1 proto static metric 5 linkdown
192.0.2.0/30 proto kernel scope link src 192.0.2.2
203.0.113.0/24 via 192.0.2.1 proto bird metric 32
198.51.100.0/24 via 192.0.2.1
"""
LISTING_6 = """\
2001:db8:1::/64 proto kernel metric 256 pref medium
fe80::/64 proto kernel metric 256 pref medium
default via 2001:db8:1::1 metric 1024 pref medium
"""


def test_only_static_routes_are_kept_in_words_that_ip_takes_back() -> None:
    assert list(route_commands("-4", LISTING, "eth1")) == [
        "-4 route replace default via 192.0.2.1 proto static metric 5 dev eth1",
        "-4 route replace 198.51.100.0/24 via 192.0.2.1 dev eth1",
    ]
    assert list(route_commands("-6", LISTING_6, "eth1")) == [
        "-6 route replace default via 2001:db8:1::1 metric 1024 dev eth1"
    ]


def test_global_ipv6_addresses_are_kept() -> None:
    listing = "2: eth1    inet6 2001:db8::1/64 scope global \\       valid_lft forever preferred_lft forever\n"
    assert list(address_commands(listing, "eth1")) == ["-6 address replace 2001:db8::1/64 dev eth1 nodad"]


def test_loss_is_drawn_in_ten_thousandths() -> None:
    assert "numgen random mod 10000 < 250 counter drop" in loss_rules("eth1", 0.025)


def test_full_loss_drops_without_a_draw_and_no_loss_leaves_no_rule() -> None:
    assert "numgen" not in loss_rules("eth1", 1.0)
    assert "counter drop" in loss_rules("eth1", 1.0)
    assert "drop" not in loss_rules("eth1", 0.0)
