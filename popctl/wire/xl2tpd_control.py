"""xl2tpd's control: one request into its fifo, the answer out of a fifo that the request names.

    @/path/of/answer y default        ->    00 OK
                                            00 STATUS tunnels.count=1
                                            00 STATUS tunnels.0.calls.count=2

Captured from xl2tpd 1.3.18 (`xl2tpd-control status-lns default`).
"""

from __future__ import annotations

from typing import Final

from popctl.model.meter import L2tpCount
from popctl.wire.errors import WireError

MAX_REQUEST: Final = 1024
"""xl2tpd reads no more at once."""
_OK: Final = "00 OK"
_MAX_DIGITS: Final = 9


def status_request(answer: str, lns: str) -> bytes:
    """Ask for the state of one LNS. Raises `ValueError` for what cannot be said."""
    for word in (answer, lns):
        if not word.isascii() or not word.isprintable() or " " in word or not word:
            raise ValueError(f"no word for xl2tpd's control: {word!r}")
    request = f"@{answer} y {lns}".encode("ascii")
    if len(request) > MAX_REQUEST:
        raise ValueError(f"longer than {MAX_REQUEST} bytes")
    return request


def status(answer: bytes) -> L2tpCount:
    """Read the answer. Raises `WireError`, also for a refusal."""
    try:
        lines = answer.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise WireError("not ASCII", found=answer, offset=error.start) from error
    if not lines or lines[0].strip() != _OK:
        raise WireError("refused", found=answer)
    tunnels: int | None = None
    sessions = 0
    for line in lines[1:]:
        key, equals, value = line.rpartition(" ")[2].partition("=")
        if not equals or not key.endswith("count"):
            continue
        if key == "tunnels.count":
            tunnels = _count(value)
        elif key.startswith("tunnels.") and key.endswith(".calls.count"):
            sessions += _count(value)
    if tunnels is None:
        raise WireError("no tunnels.count", found=answer)
    return L2tpCount(tunnels=tunnels, sessions=sessions)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise WireError("not a count", found=text)
    return int(text)
