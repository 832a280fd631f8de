"""SAs of a real charon: counted with their age, and ended in good order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from popctl.lb import sas
from popctl.lb.sas import SaCount
from popctl.model.pop import ViciEndpoint
from popctl.vici.errors import ViciError
from tests.eventually import eventually
from tests.peers.netns import SERVER_ADDRESS, two_hosts
from tests.peers.strongswan import GATEWAY_ID, StrongSwan

pytestmark = pytest.mark.peer

_CLIENTS = 3
_CLIENT = {
    f"c{number}": {
        "version": "2",
        "remote_addrs": [SERVER_ADDRESS],
        "proposals": ["aes256-sha256-modp2048"],
        "unique": "never",
        "childless": "force",
        "local-1": {"auth": "psk", "id": f"client{number}@example.net"},
        "remote-1": {"auth": "psk", "id": GATEWAY_ID},
    }
    for number in range(_CLIENTS)
}


@pytest.fixture
def pair() -> Iterator[tuple[StrongSwan, StrongSwan]]:
    """Provide a client and a gateway."""
    with (
        two_hosts("sas") as hosts,
        StrongSwan(hosts.server) as gateway,
        StrongSwan(hosts.client, connections=_CLIENT) as client,
    ):
        yield client, gateway


def count(endpoint: ViciEndpoint) -> SaCount:
    return asyncio.run(sas.count(endpoint))


def end(endpoint: ViciEndpoint) -> int:
    return asyncio.run(sas.end(endpoint))


def connect(client: StrongSwan) -> None:
    with client.vici() as session:
        for name in _CLIENT:
            list(session.initiate({"ike": name, "timeout": "5000"}))


def test_established_sas_are_counted_and_every_client_hears_of_the_end(pair: tuple[StrongSwan, StrongSwan]) -> None:
    client, gateway = pair
    endpoint = ViciEndpoint(path=gateway.vici_path)
    assert count(endpoint) == SaCount(ages_s=())
    connect(client)
    # The gateway may still be at work on the last one: it is counted, though its age is not known yet.
    found = count(endpoint)
    assert len(found.ages_s) + found.busy == _CLIENTS
    eventually(lambda: len(count(endpoint).ages_s) == _CLIENTS)
    assert end(endpoint) == _CLIENTS
    eventually(lambda: client.sas() == [] and count(endpoint) == SaCount(ages_s=()))
    assert end(endpoint) == 0


def test_a_charon_that_is_not_there_is_an_error_that_names_its_socket(tmp_path: Path) -> None:
    with pytest.raises(ViciError, match=r"nobody\.vici"):
        count(ViciEndpoint(path=tmp_path / "nobody.vici"))


def test_something_else_on_the_socket_is_an_error() -> None:
    with pytest.raises(ViciError, match=r"tcp://127\.0\.0\.1:1"):
        end(ViciEndpoint(host="127.0.0.1", port=1))
