"""A real strongSwan (charon-systemd) in a namespace, with a private configuration, loaded over VICI.

    with two_hosts() as hosts, StrongSwan(hosts.server) as gateway:
        ...
        assert gateway.half_open() == 0

The default gateway speaks IKEv1 and IKEv2 with the pre-shared key `PSK` and calls itself `GATEWAY_ID`. Connections and
secrets are dictionaries as VICI takes them; `connections={}` is a gateway that was never configured.
"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vici

from tests.eventually import eventually
from tests.peers.daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PROGRAM = "/usr/sbin/charon-systemd"
PSK = "correct horse battery staple"
GATEWAY_ID = "vpn.example.net"
_VICI_S = 5.0
_PLUGINS = (
    "random nonce aes sha1 sha2 md5 hmac kdf gmp openssl gcm pem pkcs1 pkcs8 x509 pubkey revocation constraints "
    "xcbc drbg {kernel} socket-default counters updown vici"
)
_CONFIGURATION = """\
charon {{
    load = {plugins}
    threads = {threads}
    install_routes = {install_routes}
    plugins {{
        vici {{
            socket = unix://{directory}/charon.vici
        }}
        socket-default {{
            use_ipv6 = no
        }}
    }}
{settings}
    filelog {{
        log {{
            path = {directory}/charon.log
            flush_line = yes
            ike_name = yes
            default = 1
        }}
    }}
}}
"""

Connection = "Mapping[str, Any]"


def connection(version: int, proposals: Sequence[str], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - VICI is untyped
    """Return a responder's connection with a PSK, for anybody."""
    return {
        "version": str(version),
        "remote_addrs": ["%any"],
        "proposals": list(proposals),
        "encap": "yes",
        "rekey_time": "0s",
        "unique": "never",
        "local-1": {"auth": "psk", "id": GATEWAY_ID},
        "remote-1": {"auth": "psk"},
        "children": {"net": {"local_ts": ["10.2.0.0/16"], "esp_proposals": ["aes256-sha256"]}},
        **more,
    }


CONNECTIONS: Mapping[str, Mapping[str, Any]] = {
    "ikev2-psk": connection(2, ("aes256-sha256-modp2048", "aes128-sha256-ecp256")),
    "ikev1-psk": connection(1, ("aes256-sha256-modp2048", "aes256-sha1-modp1024", "3des-sha1-modp1024")),
}


class StrongSwan(Daemon):
    """One charon. Leave `threads` at 16: eight of them belong to libipsec and the kernel interface for ever."""

    program = PROGRAM

    def __init__(
        self,
        namespace: str,
        *,
        connections: Mapping[str, Mapping[str, Any]] = CONNECTIONS,
        secrets: Sequence[str] = (PSK,),
        threads: int = 16,
        settings: Mapping[str, str] | None = None,
        more: str = "",
        libipsec: bool = False,
        load: bool = True,
    ) -> None:
        """Describe the gateway.

        Args:
            namespace: where it runs.
            connections: name -> connection, as VICI takes it.
            secrets: pre-shared keys, each for anybody.
            threads: 8 together with `libipsec` is the gateway that listens and has no worker left.
            settings: more of the section `charon`, such as `{"cookie_threshold": "0"}`.
            more: further sections of strongswan.conf; what they set comes on top.
            libipsec: take ESP into user space (kernel-libipsec), for kernels without ESP.
            load: load connections and secrets over VICI; off when no worker is left to answer.
        """
        super().__init__(namespace)
        self._connections = connections
        self._secrets = secrets
        self._load = load
        kernel = "kernel-libipsec kernel-netlink" if libipsec else "kernel-netlink"
        text = _CONFIGURATION.format(
            plugins=_PLUGINS.format(kernel=kernel),
            threads=threads,
            install_routes="yes" if libipsec else "no",
            directory=self.directory,
            settings="".join(f"    {key} = {value}\n" for key, value in (settings or {}).items()),
        )
        (self.directory / "strongswan.conf").write_text(text + more)

    @property
    def vici_path(self) -> Path:
        """The VICI socket."""
        return self.directory / "charon.vici"

    def start(self) -> None:
        """Start charon and load what it was described with."""
        self.vici_path.unlink(missing_ok=True)
        self.spawn([PROGRAM], {"STRONGSWAN_CONF": str(self.directory / "strongswan.conf")})
        eventually(lambda: self.alive and self.vici_path.exists() and "spawning" in self.log_of_this_life())
        if self._load:
            self.load(self._connections, self._secrets)

    def load(self, connections: Mapping[str, Mapping[str, Any]], secrets: Sequence[str] = ()) -> None:
        """Load connections and secrets, in addition to what is loaded."""
        with self.vici() as session:
            for number, secret in enumerate(secrets):
                session.load_shared({"id": f"psk-{number}", "type": "IKE", "data": secret})
            for name, each in connections.items():
                session.load_conn({name: each})

    @contextmanager
    def vici(self) -> Iterator[vici.Session]:
        """Open a VICI session, with a time limit."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(_VICI_S)
            sock.connect(str(self.vici_path))
            yield vici.Session(sock)

    def sas(self) -> list[Mapping[str, Any]]:
        """Return all IKE SAs, half-open ones too."""
        with self.vici() as session:
            return [sa for entry in session.list_sas() for sa in entry.values()]

    def half_open(self) -> int:
        """Return how many IKE SAs are half-open."""
        with self.vici() as session:
            return int(session.stats()["ikesas"]["half-open"])
