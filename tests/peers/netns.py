"""Two hosts of their own for a test with a real daemon: network namespaces, one wire between them, gone afterwards."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_ADDRESS = "192.0.2.1"
CLIENT_ADDRESS = "192.0.2.2"
_CLONE_NEWNET = 0x40000000
_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoHosts:
    """The names of the namespaces; the addresses are always the same."""

    server: str
    client: str


def ip(*words: str) -> None:
    """Run one `ip` command. Raises `CalledProcessError`, with what it said."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=20)


@contextmanager
def two_hosts(prefix: str = "peer") -> Iterator[TwoHosts]:
    """Raise a server and a client on one wire, 192.0.2.0/24; names are unique in this host."""
    stem = f"{prefix}-{os.getpid()}-{next(_numbers)}"
    hosts = TwoHosts(server=f"{stem}-s", client=f"{stem}-c")
    try:
        for name in (hosts.server, hosts.client):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", hosts.server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", hosts.client)
        for name, address in ((hosts.server, SERVER_ADDRESS), (hosts.client, CLIENT_ADDRESS)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield hosts
    finally:
        for name in (hosts.server, hosts.client):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=20)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Let this thread live in `namespace` for a while. A socket made here stays in it for ever."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path("/run/netns", namespace).open("rb") as there:
        _enter(libc, there.fileno())
        try:
            yield
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def udp_socket(namespace: str, port: int, *, server: str = SERVER_ADDRESS) -> socket.socket:
    """Return a UDP socket of `namespace`, connected, so that a refusal is heard."""
    with inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect((server, port))
    return sock
