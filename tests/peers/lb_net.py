"""Network namespaces for balancer tests: names of their own, gone afterwards, no sleeping."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from popctl.lb.namespace import enter

_numbers = itertools.count()
_EVERY_PROTOCOL = 3

needs_nft = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None, reason="needs root and the nftables package"
)


def run(*words: str, stdin: str = "", check: bool = True, timeout_s: float = 30.0) -> str:
    """Run a program and return what it says. Raises `AssertionError` with its complaint."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout


class Net:
    """A handful of namespaces that one test owns."""

    def __init__(self) -> None:
        self.prefix = f"plb{os.getpid()}x{next(_numbers)}"
        self.names: list[str] = []
        self.sockets: list[socket.socket] = []

    def add(self, *names: str) -> None:
        """Make namespaces that forward and do not filter by return path."""
        for name in names:
            run("ip", "netns", "add", self.name(name))
            self.names.append(name)
            run("ip", "-n", self.name(name), "link", "set", "lo", "up")
            settings = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0"]
            settings += [f"net.ipv4.conf.{which}.rp_filter=0" for which in ("all", "default")]
            self.inside(name, "sysctl", "-qw", *settings)

    def name(self, short: str) -> str:
        """Return the full name of a namespace."""
        return f"{self.prefix}{short}"

    def inside(self, name: str, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run a program in a namespace."""
        return run("ip", "netns", "exec", self.name(name), *words, stdin=stdin, check=check)

    def ip(self, name: str, command: str) -> str:
        """Run one `ip` command in a namespace."""
        return run("ip", "-n", self.name(name), *command.split())

    def link(self, a: str, a_if: str, a_addresses: str, b: str, b_if: str, b_addresses: str) -> None:
        """Join two namespaces by a veth pair; addresses are separated by blanks."""
        self.ip(a, f"link add {a_if} type veth peer name {b_if} netns {self.name(b)}")
        for where, interface, addresses in ((a, a_if, a_addresses), (b, b_if, b_addresses)):
            # Checksums left to hardware that does not exist look broken once a packet was reassembled or copied.
            self.inside(where, "ethtool", "-K", interface, "tx", "off", check=False)
            for address in addresses.split():
                self.ip(where, f"addr add {address} dev {interface}" + (" nodad" if ":" in address else ""))
            self.ip(where, f"link set {interface} up")

    @contextlib.contextmanager
    def thread(self, name: str) -> Iterator[ThreadPoolExecutor]:
        """Yield an executor whose one thread is in a namespace, for sockets that must be there."""
        with ThreadPoolExecutor(1, initializer=partial(enter, self.name(name))) as executor:
            yield executor

    def packet_socket(self, name: str, interface: str, *, listens: bool = False) -> socket.socket:
        """Return a raw socket bound to an interface of a namespace; `listens`: it hears every frame."""

        def make() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            raw.bind((interface, _EVERY_PROTOCOL if listens else 0))
            return raw

        with self.thread(name) as executor:
            self.sockets.append(executor.submit(make).result())
        return self.sockets[-1]

    def mac(self, name: str, interface: str) -> bytes:
        """Return the hardware address of an interface."""
        text = self.inside(name, "cat", f"/sys/class/net/{interface}/address")
        return bytes.fromhex(text.strip().replace(":", ""))

    def close(self) -> None:
        """Close all sockets and delete all namespaces."""
        for one in self.sockets:
            one.close()
        for name in self.names:
            run("ip", "netns", "del", self.name(name), check=False)


@pytest.fixture
def net() -> Iterator[Net]:
    """Provide namespaces of this test's own."""
    owned = Net()
    try:
        yield owned
    finally:
        owned.close()
