"""A check program for `exabgp healthcheck`: one stateless IKEv2 question, exit 0 when it is answered.

`python -I -S ike_check.py ADDRESS TIMEOUT_S`. Alone in its file and of few imports, because the rival starts it for
every check: what it costs is the least that a forked check in Python can cost.
"""

import os
import socket
import sys

_HEADER_BYTES = 28
_SA = bytes.fromhex(  # AES-CBC-256, HMAC-SHA2-256, PRF, MODP-2048 and ECP-256
    "22000038 00000034 01010005 0300000c 0100000c 800e0100 03000008 0300000c 03000008 02000005"
    "03000008 0400000e 00000008 04000013"
)
_KE_GROUP_19 = bytes.fromhex("28000048 00130000")
_NONCE_HEAD = bytes.fromhex("00000024")


def question() -> bytes:
    """Return an IKE_SA_INIT request (RFC 7296 section 1.2)."""
    body = _SA + _KE_GROUP_19 + os.urandom(64) + _NONCE_HEAD + os.urandom(32)
    length = _HEADER_BYTES + len(body)
    return os.urandom(8) + bytes(8) + bytes.fromhex("21202208 00000000") + length.to_bytes(4, "big") + body


def main() -> int:
    """Ask; 0 is any IKE answer to this question."""
    request = question()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(float(sys.argv[2]))
    try:
        sock.connect((sys.argv[1], 500))
        sock.send(request)
        return 0 if sock.recv(4096)[:8] == request[:8] else 1
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
