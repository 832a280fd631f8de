"""What the host must have before anything in its kernel is touched, and how the counters read."""

from __future__ import annotations

import pytest

from popctl.lb.libnft import version_problems
from popctl.model.reason import Reason
from popctl.wire.errors import WireError
from popctl.wire.nft_counters import Count, parse_counters


@pytest.mark.parametrize("answer", ["nftables v1.0.6 (Lester Gooch #5)", "nftables v1.1.3 (Commodore Bullmoose #4)"])
def test_a_tested_version_is_accepted(answer: str) -> None:
    assert version_problems(answer) == ()


@pytest.mark.parametrize("answer", ["nftables v0.9.8 (E.D.S.)", "nftables v1.0.5", "", "something else"])
def test_an_old_or_unknown_version_is_one_line_with_key_and_remedy(answer: str) -> None:
    (problem,) = version_problems(answer)
    assert str(problem) == f"balancer: {answer or 'nft'} is too old; install nftables 1.0.6 or newer"


def test_counters_are_by_backend_and_by_service() -> None:
    found = parse_counters(
        [
            ("to.3.esp-slice", 7, 700),
            ("drop.vpn.stray", 2, 80),
            ("to.3.replicated", 1, 60),
            ("replicated.over-limit", 4, 1),
            ("to.3.replicated", 2, 90),
            ("replicated.over-limit", 1, 1),
        ]
    )
    assert found.forwarded == {(3, Reason.ESP_SLICE): Count(7, 700), (3, Reason.REPLICATED): Count(3, 150)}
    assert found.dropped == {("vpn", Reason.STRAY): Count(2, 80)}
    assert found.copies_over_limit == 5


@pytest.mark.parametrize("name", ["to.x.esp-slice", "to.3.nonsense", "drop.vpn.nonsense", "else", ""])
def test_a_counter_that_is_none_of_ours_is_a_wire_error(name: str) -> None:
    with pytest.raises(WireError):
        parse_counters([(name, 1, 1)])
