"""Certificates as etcd and its clients want them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from popctl.fleet.etcd import TlsFiles
from tests import certificates
from tests.peers.etcd import ServerTls

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """Writes all its files into one directory."""

    def __init__(self, directory: Path) -> None:
        self._authority = certificates.Authority(directory)

    def server(self) -> ServerTls:
        """Return files of a server on loopback. Its gateway dials itself, so it is a client, too."""
        issued = self._authority.issue("server", certificates.SERVER, certificates.CLIENT)
        return ServerTls(self._authority.ca, issued.certificate, issued.key)

    def client(self, name: str) -> TlsFiles:
        """Return files of a client."""
        issued = self._authority.issue(name, certificates.CLIENT)
        return TlsFiles(ca=self._authority.ca, certificate=issued.certificate, key=issued.key)
