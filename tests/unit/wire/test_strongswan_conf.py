"""Whether live SAs of a backend follow the plan, by what VICI shows."""

from __future__ import annotations

from typing import Any

import pytest

from popctl.model.observation import Outcome
from popctl.wire.errors import WireError
from popctl.wire.spi import Identity
from popctl.wire.strongswan_conf import check
from tests.balancers import PLAN, POP, esp_spi, server_spi

IDENTITY = Identity(POP, 1)
CLIENT = b"1122334455667788"


def sa(ours: bytes, *, initiator: bool = False, esp: int | None = None) -> dict[str, Any]:
    """Return an SA as list-sas of VICI does."""
    mine = ours.hex().encode()
    spis = (
        {"initiator-spi": mine, "responder-spi": CLIENT}
        if initiator
        else {"initiator-spi": CLIENT, "responder-spi": mine}
    )
    children = {} if esp is None else {"net-1": {"spi-in": f"{esp:08x}".encode()}}
    return {**spis, **({"initiator": b"yes"} if initiator else {}), "child-sas": children}


def test_without_an_sa_nothing_is_known() -> None:
    assert check([PLAN], IDENTITY, []).outcome is Outcome.UNKNOWN
    assert check([PLAN], IDENTITY, [sa(bytes(8))]).outcome is Outcome.UNKNOWN


def test_labelled_sas_of_either_role_pass() -> None:
    found = check([PLAN], IDENTITY, [sa(server_spi(1), esp=esp_spi(1)), sa(server_spi(1), initiator=True)])
    assert (found.outcome, found.ike_seen, found.esp_seen) == (Outcome.PASS, 2, 1)


def test_the_label_or_slice_of_another_backend_fails_with_the_settings() -> None:
    found = check([PLAN], IDENTITY, [sa(server_spi(0), esp=esp_spi(0))])
    assert found.outcome is Outcome.FAIL
    assert [p.key for p in found.problems] == ["charon.spi_label", "charon.spi_min"]
    assert "spi_min = 0x01c10000" in found.problems[1].remedy


def test_what_is_not_hex_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        check([PLAN], IDENTITY, [{"responder-spi": b"xyz"}])
