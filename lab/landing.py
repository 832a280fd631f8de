#!/usr/bin/env python3
"""Where do a client's packets land? Asks the VIP with the real protocols, and prints who answered.

Runs on the client node, with nothing but the standard library, and shares no code with popctl: it is the lab's
independent witness. Two questions leave nothing behind on a server:

* IKE: an IKEv1 Main Mode proposal that nobody accepts (RFC 2409 section 5.4). strongSwan's refusal carries a responder
  cookie of its own, so its first 32 bits are the label of the server.
* L2TP: SCCRQ, and StopCCN as soon as SCCRP is there (RFC 2661 section 5.1). The Host Name AVP is the server's name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_address

IKE_PORT = 500
L2TP_PORT = 1701
_IKE_HEADER = struct.Struct(">8s8sBBBBII")
_L2TP_HEADER = struct.Struct(">HHHHHH")
_AVP = struct.Struct(">HHH")
_MAIN_MODE, _INFORMATIONAL = 2, 5
_SA_PAYLOAD, _NOTIFY_PAYLOAD = 1, 11
_SCCRQ, _SCCRP, _STOPCCN = 1, 2, 4
_HOST_NAME, _ASSIGNED_TUNNEL_ID = 7, 9
_CONTROL_BITS = 0xC802
_MANDATORY = 0x8000
_AVP_LENGTH = 0x03FF


def ike_question(cookie: bytes) -> bytes:
    """Return a Main Mode first message whose only transform is of a cipher from the private-use range."""
    transform_attributes = struct.pack(
        ">HHHHHHHHHHHH", 0x8001, 65001, 0x8002, 2, 0x8004, 14, 0x8003, 1, 0x800B, 1, 0x800C, 28800
    )
    transform = struct.pack(">BxHBBxx", 0, 8 + len(transform_attributes), 1, 1) + transform_attributes
    proposal = struct.pack(">BxHBBBB", 0, 8 + len(transform), 1, 1, 0, 1) + transform
    association = struct.pack(">BxHII", 0, 12 + len(proposal), 1, 1) + proposal
    header = _IKE_HEADER.pack(
        cookie, bytes(8), _SA_PAYLOAD, 0x10, _MAIN_MODE, 0, 0, _IKE_HEADER.size + len(association)
    )
    return header + association


def ike_label(datagram: bytes, cookie: bytes) -> str | None:
    """Return the label in the refusal of our question; None for any other datagram."""
    if len(datagram) < _IKE_HEADER.size:
        return None
    initiator, responder, payload, _, exchange, *_ = _IKE_HEADER.unpack_from(datagram)
    if (initiator, payload, exchange) != (cookie, _NOTIFY_PAYLOAD, _INFORMATIONAL):
        return None
    return bytes(responder[:4]).hex()


def _avp(kind: int, value: bytes) -> bytes:
    return _AVP.pack(_MANDATORY | (_AVP.size + len(value)), 0, kind) + value


def _control(tunnel: int, sent: int, received: int, avps: bytes) -> bytes:
    return _L2TP_HEADER.pack(_CONTROL_BITS, _L2TP_HEADER.size + len(avps), tunnel, 0, sent, received) + avps


def l2tp_question(tunnel: int) -> bytes:
    """Return an SCCRQ that assigns this tunnel id."""
    avps = [(0, struct.pack(">H", _SCCRQ)), (2, b"\1\0"), (3, bytes([0, 0, 0, 3])), (_HOST_NAME, b"lab-landing")]
    avps += [(_ASSIGNED_TUNNEL_ID, struct.pack(">H", tunnel)), (10, struct.pack(">H", 4))]
    return _control(0, 0, 0, b"".join(_avp(*avp) for avp in avps))


def l2tp_goodbye(tunnel: int, peer_tunnel: int) -> bytes:
    """Return the StopCCN that ends the half-open tunnel at once."""
    avps = [
        (0, struct.pack(">H", _STOPCCN)),
        (1, struct.pack(">HH", 1, 0)),
        (_ASSIGNED_TUNNEL_ID, struct.pack(">H", tunnel)),
    ]
    return _control(peer_tunnel, 1, 1, b"".join(_avp(*avp) for avp in avps))


def l2tp_answer(datagram: bytes, tunnel: int) -> tuple[str, int] | None:
    """Return host name and tunnel id of an SCCRP to our tunnel; None for any other datagram."""
    if len(datagram) < _L2TP_HEADER.size or _L2TP_HEADER.unpack_from(datagram)[2] != tunnel:
        return None
    found: dict[int, bytes] = {}
    rest = datagram[_L2TP_HEADER.size :]
    while len(rest) >= _AVP.size:
        length, _, kind = _AVP.unpack_from(rest)
        length &= _AVP_LENGTH
        if length < _AVP.size:
            return None
        found[kind] = rest[_AVP.size : length]
        rest = rest[length:]
    if found.get(0) != struct.pack(">H", _SCCRP) or len(found.get(_ASSIGNED_TUNNEL_ID, b"")) != 2:  # noqa: PLR2004 - 16 bits
        return None
    return found.get(_HOST_NAME, b"").decode("ascii", "replace"), int.from_bytes(found[_ASSIGNED_TUNNEL_ID], "big")


def _ask_ike(sock: socket.socket, seed: str) -> str | None:
    # The cookie is what a balancer spreads by: the same question twice wants the same cookie.
    cookie = hashlib.sha256(seed.encode()).digest()[:8] if seed else os.urandom(8)
    sock.send(ike_question(cookie))
    return ike_label(sock.recv(4096), cookie)


def _ask_l2tp(sock: socket.socket, _: str) -> str | None:
    # Zero is no tunnel id.
    tunnel = int.from_bytes(os.urandom(2), "big") | 1
    sock.send(l2tp_question(tunnel))
    answer = l2tp_answer(sock.recv(4096), tunnel)
    if answer is None:
        return None
    sock.send(l2tp_goodbye(tunnel, answer[1]))
    return answer[0]


_QUESTIONS = {"ike": (IKE_PORT, _ask_ike), "l2tp": (L2TP_PORT, _ask_l2tp)}


def ask(vip: str, protocol: str, *, source: str, timeout_s: float, seed: str = "") -> dict[str, object]:
    """Ask once from a fresh port; `landed` is the label or the host name, None without a usable answer in time."""
    port, question = _QUESTIONS[protocol]
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    asked_unix_s, begun = time.time(), time.monotonic()
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.bind((source, 0))
            sock.connect((vip, port))
            landed, error = question(sock, seed), None
        except OSError as failure:
            landed, error = None, type(failure).__name__
    rtt_s = round(time.monotonic() - begun, 6)
    return {"asked_unix_s": asked_unix_s, "landed": landed, "rtt_s": rtt_s if landed else None, "error": error}


def main(arguments: Sequence[str]) -> int:
    """Ask as often as told, one JSON line each. Exit 0 when every question was answered."""
    parser = argparse.ArgumentParser(description="Where do packets to a VIP land?")
    parser.add_argument("vip")
    parser.add_argument("--protocol", choices=sorted(_QUESTIONS), default="ike")
    parser.add_argument("--source", default="", help="local address; none lets the kernel choose")
    parser.add_argument("--crowd", action="store_true", help="every question from the next source address")
    parser.add_argument("--seed", default="", help="the same IKE questions for the same seed")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--interval-s", type=float, default=0.1)
    parser.add_argument("--timeout-s", type=float, default=1.0)
    options = parser.parse_args(arguments)
    answered = True
    for number in range(options.count):
        if number:
            time.sleep(options.interval_s)
        source = str(ip_address(options.source) + number) if options.crowd else options.source
        seed = f"{options.seed}{number}" if options.seed else ""
        answer = ask(options.vip, options.protocol, source=source, timeout_s=options.timeout_s, seed=seed)
        answered = answered and answer["landed"] is not None
        print(json.dumps(answer), flush=True)
    return 0 if answered else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
