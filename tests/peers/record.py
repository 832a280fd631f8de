"""Record the conversations of tests/data/wire with the daemons of this host: `python -m tests.peers.record`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from popctl.model.pop import Secret
from popctl.model.probe import IkeDeep, IkeLiveness, L2tp
from popctl.wire.exchanges import exchange_for
from tests.peers.drive import drive
from tests.peers.netns import TwoHosts, two_hosts, udp_socket
from tests.peers.strongswan import CONNECTIONS, GATEWAY_ID, PSK, StrongSwan, connection
from tests.peers.xl2tpd import Xl2tpd
from tests.unit.wire.conversations import CLIENT, DATA, SERVER, Conversation, Seeded, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBE_ID = "probe@popctl.example"
TUNNEL_SECRET = "tunnel secret"  # noqa: S105 - of a daemon that lives for one recording


def deep(version: int, port: int = 500, *, psk: str = PSK, remote: str | None = GATEWAY_ID) -> IkeDeep:
    """Return the deep probe of the default gateway."""
    return IkeDeep(version=version, port=port, identity=PROBE_ID, remote_identity=remote, psk=Secret(psk))


def live(version: int, port: int = 500) -> IkeLiveness:
    """Return the liveness probe."""
    return IkeLiveness(version=version, port=port)


def record(hosts: TwoHosts, name: str, method: IkeLiveness | IkeDeep | L2tp) -> Conversation:
    """Carry out one probe with the entropy that its name stands for."""
    with udp_socket(hosts.client, method.port) as sock:
        exchange = exchange_for(method, local=CLIENT, remote=SERVER, entropy=Seeded(name))
        ended = drive(exchange, sock)
    return Conversation(
        name=name, method=method, sent=ended.sent, received=ended.received, verdict=shown(ended.verdict)
    )


def leave_half_open(hosts: TwoHosts, gateway: StrongSwan) -> None:
    """Start an IKE SA and fall silent, so that the gateway wants cookies from now on."""
    exchange = exchange_for(deep(2), local=CLIENT, remote=SERVER, entropy=Seeded("half-open"))
    with udp_socket(hosts.client, 500) as sock:
        sock.settimeout(5)
        sock.send(exchange.start())
        sock.recv(4096)
    assert gateway.half_open() == 1


def _ike(hosts: TwoHosts) -> list[Conversation]:
    def of(gateway: Mapping[str, IkeLiveness | IkeDeep]) -> list[Conversation]:
        return [record(hosts, name, method) for name, method in gateway.items()]

    found = []
    with StrongSwan(hosts.server):
        found += of({f"v{v}-live-{port}": live(v, port) for v in (1, 2) for port in (500, 4500)})
        found += of({f"v{v}-deep-{port}": deep(v, port) for v in (1, 2) for port in (500, 4500)})
        found += of({f"v{v}-deep-wrong-psk": deep(v, psk="another") for v in (1, 2)})
        found += of({"v1-deep-other-identity": deep(1, remote="other.example.net")})
    with StrongSwan(hosts.server, connections={}):
        found += of({f"v{v}-live-no-connection": live(v) for v in (1, 2)})
        found += of({f"v{v}-deep-no-connection": deep(v) for v in (1, 2)})
    with StrongSwan(hosts.server, secrets=()):
        found += of({f"v{v}-deep-no-secret": deep(v) for v in (1, 2)})
    with StrongSwan(hosts.server, connections={"weak": connection(2, ("aes128-sha1-modp768",))}):
        found += of({"v2-live-leaked": live(2)})
    ecp = {f"ecp-{v}": connection(v, ("aes128-sha256-ecp256",)) for v in (1, 2)}
    with StrongSwan(hosts.server, connections=ecp):
        found += of({f"v{v}-deep-ecp256": deep(v) for v in (1, 2)})
    with StrongSwan(hosts.server, connections=CONNECTIONS, settings={"cookie_threshold": "1"}) as gateway:
        leave_half_open(hosts, gateway)
        found += of({"v2-live-cookie": live(2), "v2-deep-cookie": deep(2)})
    return found


def _l2tp(hosts: TwoHosts) -> list[Conversation]:
    found = []
    without, secret = L2tp(port=1701, secret=None), L2tp(port=1701, secret=Secret(TUNNEL_SECRET))
    with Xl2tpd(hosts.server):
        found += [record(hosts, "open", without), record(hosts, "secret-unknown-to-server", secret)]
    with Xl2tpd(hosts.server, secret=TUNNEL_SECRET):
        found += [record(hosts, "secret-of-server-only", without), record(hosts, "secret", secret)]
        found += [record(hosts, "secret-wrong", L2tp(port=1701, secret=Secret("another")))]
    return found


def main() -> None:
    """Write both files."""
    DATA.mkdir(parents=True, exist_ok=True)
    with two_hosts("rec") as hosts:
        for file, conversations in (("ike.json", _ike(hosts)), ("l2tp.json", _l2tp(hosts))):
            entries = [conversation.to_json() for conversation in conversations]
            (DATA / file).write_text(json.dumps(entries, indent=1) + "\n")


if __name__ == "__main__":
    main()
