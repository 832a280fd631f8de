"""What `nft -j list counters` says, as tallies."""

from __future__ import annotations

import json

import pytest

from popctl.lb.balancer import KernelError
from popctl.lb.tally import Tally, parse


def listing(*counters: tuple[str, int, int]) -> str:
    named = [{"counter": {"name": name, "packets": packets, "bytes": size}} for name, packets, size in counters]
    return json.dumps({"nftables": [{"metainfo": {}}, *named]})


def test_counters_of_backends_and_of_drops_are_told_apart() -> None:
    text = listing(("to.12.new-sa", 3, 400), ("drop.vpn-2.stray", 1, 60), ("replicated.over-limit", 9, 9))
    assert parse(text) == (Tally("to", "12", "new-sa", 3, 400), Tally("drop", "vpn-2", "stray", 1, 60))


def test_no_table_is_no_counter() -> None:
    assert parse("") == ()


@pytest.mark.parametrize("text", ["x", "[]", "{}", '{"nftables": [{"counter": {}}]}', '{"nftables": 1}'])
def test_garbage_is_an_error_of_the_kernel_boundary(text: str) -> None:
    with pytest.raises(KernelError):
        parse(text)
