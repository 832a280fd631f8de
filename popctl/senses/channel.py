"""Connected datagram sockets: one per probe, kept for its whole life.

Connected, so that the kernel drops what other hosts send and hands us ICMP refusals; one per probe, so that a refusal
belongs to the only conversation on the socket and no two conversations read each other's answers.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from popctl.model.probe import Icmp, IkeDeep, IkeLiveness, L2tp

if TYPE_CHECKING:
    from popctl.model.route import Address
    from popctl.senses.prober import Target
    from popctl.senses.udp import Run

DATAGRAM_BYTES_MAX: Final = 8192
"""More than any IKE or L2TP control message of a probe; a longer datagram is garbage."""

READS_MOST: Final = 64
"""How many datagrams are taken off one socket in a row: a peer that floods us must not hold the whole loop."""

_SOL_RAW: Final = 255
_ICMP_FILTER: Final = 1
_ICMP6_FILTER: Final = 1
_ECHO_REPLY: Final = {4: 0, 6: 129}


def _all_but(kind: int, *, words: int) -> bytes:
    """Return a filter that lets one ICMP type pass: a set bit blocks a type, in words of the host's byte order."""
    mask = [0xFFFFFFFF] * words
    mask[kind // 32] ^= 1 << kind % 32
    return struct.pack(f"={words}I", *mask)


_ONLY_ECHO_REPLIES: Final = {
    4: (_SOL_RAW, _ICMP_FILTER, _all_but(_ECHO_REPLY[4], words=1)),
    6: (socket.IPPROTO_ICMPV6, _ICMP6_FILTER, _all_but(_ECHO_REPLY[6], words=8)),
}
"""Level, option and value. A raw socket sees all ICMP of a host otherwise, on loopback even our own requests."""


class Channel:
    """A connected, non-blocking socket, and the run that uses it at the moment."""

    __slots__ = ("broken", "ip_header", "local", "remote", "run", "sock")

    def __init__(self, sock: socket.socket, remote: Address, *, ip_header: bool = False) -> None:
        """Take over `sock`, which must be connected and non-blocking."""
        self.sock = sock
        self.ip_header = ip_header
        """Received datagrams start with the IPv4 header, as on every raw IPv4 socket."""
        self.run: Run | None = None
        self.broken = False
        """Open a new one: the kernel refused to send or receive, as routes and addresses may have changed, or there is
        no end to what was received."""
        self.local: Address = ip_address(sock.getsockname()[0])
        self.remote: Address = remote

    def note(self, error: OSError) -> None:
        """Remember whether `error` says that this socket should not be used again."""
        self.broken = self.broken or not isinstance(error, ConnectionRefusedError)

    def drain(self) -> None:
        """Throw away what an earlier run left: late answers, and an ICMP error that one of its datagrams met.

        With more left than one reads in a row the socket is `broken`: it would mix the runs.
        """
        for _ in range(READS_MOST):
            try:
                self.sock.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # reading the error cleared it
        self.broken = True


def open_channel(target: Target) -> Channel:
    """Open a socket for `target`'s method.

    Raises:
        OSError: no permission, no route, no such local address, no file descriptor left.
        TypeError: the method is not one that speaks in datagrams.
    """
    match target.method:
        case IkeLiveness() | IkeDeep() | L2tp():
            return _connected(_socket(target, 0), target, port=target.method.port)
        case Icmp():
            return _open_echo(target)
        case _:
            raise TypeError(f"{type(target.method).__name__} does not speak in datagrams")


def _open_echo(target: Target) -> Channel:
    """Open a ping socket where net.ipv4.ping_group_range allows it, else a raw one, which needs CAP_NET_RAW."""
    ipv6 = isinstance(target.address, IPv6Address)
    protocol = socket.IPPROTO_ICMPV6 if ipv6 else socket.IPPROTO_ICMP
    try:
        return _connected(_socket(target, protocol), target, port=0)
    except PermissionError:
        sock = _socket(target, protocol, kind=socket.SOCK_RAW)
    level, option, mask = _ONLY_ECHO_REPLIES[target.address.version]
    try:
        sock.setsockopt(level, option, mask)
    except BaseException:
        sock.close()
        raise
    return _connected(sock, target, port=0, ip_header=not ipv6)


def _socket(target: Target, protocol: int, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    family = socket.AF_INET6 if isinstance(target.address, IPv6Address) else socket.AF_INET
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)


def _connected(sock: socket.socket, target: Target, *, port: int, ip_header: bool = False) -> Channel:
    try:
        if target.source is not None:
            sock.bind((str(target.source), 0))
        sock.connect((str(target.address), port))
        return Channel(sock, target.address, ip_header=ip_header)
    except BaseException:
        sock.close()
        raise
