"""From a configured probe to its conversation."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from popctl.model.pop import Secret
from popctl.model.probe import Icmp, IkeDeep, IkeLiveness, L2tp, Method
from popctl.wire.exchange import Exchange
from popctl.wire.exchanges import credentials_of, exchange_for
from popctl.wire.ike.identity import parse_identity
from tests.unit.wire.conversations import CLIENT, SERVER, Seeded


def made(method: Method) -> Exchange:
    return exchange_for(method, local=CLIENT, remote=SERVER, entropy=Seeded("x"))


def deep(version: int, identity: str = "probe@popctl.example", remote: str | None = None) -> IkeDeep:
    return IkeDeep(version=version, port=500, identity=identity, remote_identity=remote, psk=Secret("psk"))


@pytest.mark.parametrize("version", [1, 2])
def test_the_version_is_the_one_on_the_wire(version: int) -> None:
    for method in (IkeLiveness(version=version, port=500), deep(version)):
        assert made(method).start()[17] == version << 4


def test_only_port_4500_has_the_marker() -> None:
    assert made(IkeLiveness(version=2, port=4500)).start()[:4] == bytes(4)
    assert made(IkeLiveness(version=2, port=1500)).start()[:4] != bytes(4)


def test_l2tp_asks_for_proof_only_with_a_secret() -> None:
    without, with_secret = L2tp(port=1701, secret=None), L2tp(port=1701, secret=Secret("s"))
    assert len(made(with_secret).start()) == len(made(without).start()) + 6 + 16


def test_a_probe_without_an_identity_is_known_by_its_address() -> None:
    assert credentials_of(deep(1, ""), CLIENT).local == parse_identity("192.0.2.2")
    assert credentials_of(deep(1, ""), ip_address("2001:db8::2")).local == parse_identity("2001:db8::2")
    assert credentials_of(deep(1), CLIENT).local == parse_identity("probe@popctl.example")


def test_methods_of_other_kinds_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="Icmp"):
        made(Icmp())


def test_an_identity_that_ike_cannot_carry_is_refused() -> None:
    with pytest.raises(ValueError, match="not an IKE identity"):
        made(deep(2, "prö"))
