"""A fast stand-in for a thousand gateways: valid IKE and L2TP answers from whatever address was asked.

`python -m tests.bench.responder IKE_PORT L2TP_PORT [CPU]` prints `ready` and answers until it is killed.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys

_IP_PKTINFO = 8
_BATCH = 64
_DATAGRAM_BYTES = 4096

INVALID_KE_PAYLOAD = bytes.fromhex("2920222000000000000000260000000a00000011000e")
"""From the next payload field on: Notify, response, length 38, and the wish for group 14 (RFC 7296 section 1.2)."""

_SCCRP_TYPE = bytes.fromhex("800800000000 0002")
_SCCRP_FIXED = bytes.fromhex(
    "8008 0000 0002 0100"  # protocol version 1.0
    "800a 0000 0003 00000003"  # framing capabilities
    "8009 0000 0007 6c6e73"  # host name "lns"
    "8008 0000 000a 0004"  # receive window size
)
_TUNNEL_ID = struct.Struct(">HHHH")
_L2TP_HEADER = struct.Struct(">HHHHHH")
_CONTROL = 0xC802
_ASSIGNED_TUNNEL_ID = bytes.fromhex("80080000 0009")
_SCCRQ, _STOP_CCN = 1, 4


def ike_answer(request: bytes) -> bytes:
    """Return INVALID_KE_PAYLOAD for an IKE_SA_INIT."""
    return request[:8] + bytes(8) + INVALID_KE_PAYLOAD


def l2tp_answer(request: bytes) -> bytes | None:
    """Return SCCRP for SCCRQ, and a ZLB acknowledgement for StopCCN (RFC 2661 section 5.8)."""
    kind = int.from_bytes(request[18:20])
    at = request.find(_ASSIGNED_TUNNEL_ID)
    tunnel = int.from_bytes(request[at + 6 : at + 8])
    _, _, _, _, sent, received = _L2TP_HEADER.unpack_from(request)
    if kind == _SCCRQ:
        avps = _SCCRP_TYPE + _SCCRP_FIXED + _ASSIGNED_TUNNEL_ID + tunnel.to_bytes(2)
        return _L2TP_HEADER.pack(_CONTROL, 12 + len(avps), tunnel, 0, 0, 1) + avps
    if kind == _STOP_CCN:
        return _L2TP_HEADER.pack(_CONTROL, 12, tunnel, 0, received, sent + 1)
    return None


def open_socket(port: int) -> socket.socket:
    """Return a socket that learns to which of our addresses each datagram was sent."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    sock.bind(("0.0.0.0", port))  # noqa: S104 - loopback only, all of 127/8
    return sock


def main() -> None:
    """Answer on both ports."""
    ike_port, l2tp_port = int(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) > 3:
        os.sched_setaffinity(0, {int(sys.argv[3])})
    answer_of = {open_socket(ike_port): ike_answer, open_socket(l2tp_port): l2tp_answer}
    by_fd = {sock.fileno(): sock for sock in answer_of}
    poll = select.epoll()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    print("ready", flush=True)
    while True:
        for fd, _ in poll.poll():
            sock = by_fd[fd]
            serve(sock, answer_of[sock])


def serve(sock: socket.socket, answer_of) -> None:  # noqa: ANN001 - a plain function of bytes
    """Answer what has arrived, from the address that was asked."""
    for _ in range(_BATCH):
        try:
            request, ancillary, _, peer = sock.recvmsg(_DATAGRAM_BYTES, 64)
        except BlockingIOError:
            return
        answer = answer_of(request)
        if answer is not None:
            asked = ancillary[0][2][8:12]
            info = struct.pack("=I4s4s", 0, asked, bytes(4))
            sock.sendmsg([answer], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, peer)


if __name__ == "__main__":
    main()
