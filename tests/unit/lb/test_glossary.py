"""Every reason of the balancer stands in the glossary, and nothing else in its table."""

from __future__ import annotations

import re
from pathlib import Path

from popctl.model.reason import Reason
from popctl.wire.nft import DROPS, REASON_CODES

PAGE = Path(__file__).parents[3] / "docs" / "glossary.md"
OF_PLACES = {Reason.LAST_ALIVE, Reason.DRAINING, Reason.REFUSES_NEW, Reason.CUT}


def test_the_glossary_has_every_reason_of_the_balancer() -> None:
    table = PAGE.read_text().partition("## Reasons of the balancer")[2]
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", table, flags=re.MULTILINE)
    assert sorted(listed) == sorted({*REASON_CODES, *DROPS, Reason.NOT_A_VIP, *OF_PLACES})
