"""Conversations with real daemons, recorded, and entropy that makes them come out the same again.

`tests/peers/record.py` records them anew. Each one names the seed, so that a replay must produce the same requests byte
for byte, whole cryptographic conversations included.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from popctl.model.pop import Secret
from popctl.model.probe import IkeDeep, IkeLiveness, L2tp
from popctl.wire.exchange import Exchange, Verdict
from popctl.wire.exchanges import exchange_for

DATA = Path(__file__).parents[2] / "data" / "wire"
CLIENT = ip_address("192.0.2.2")
SERVER = ip_address("192.0.2.1")
_KINDS = {"IkeLiveness": IkeLiveness, "IkeDeep": IkeDeep, "L2tp": L2tp}
_SECRETS = ("psk", "secret")


class Seeded:
    """Entropy that depends on a seed only: SHA-256 of the seed and a counter."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def __call__(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        out = b""
        while len(out) < size:
            out += hashlib.sha256(self._seed + self._count.to_bytes(4, "big")).digest()
            self._count += 1
        return out[:size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One recorded probe."""

    name: str
    method: IkeLiveness | IkeDeep | L2tp
    sent: tuple[bytes, ...]
    received: tuple[bytes, ...]
    verdict: tuple[str, str, str] | None
    """Outcome, reason, detail."""

    def exchange(self, seed: str | None = None) -> Exchange:
        """Make the exchange anew, with the entropy of the recording or another."""
        return exchange_for(self.method, local=CLIENT, remote=SERVER, entropy=Seeded(seed or self.name))

    def to_json(self) -> dict[str, Any]:
        """Return what is written into the file."""
        method: dict[str, Any] = asdict(self.method)
        for key in _SECRETS:
            if getattr(self.method, key, None) is not None:
                method[key] = getattr(self.method, key).reveal()
        return {
            "name": self.name,
            "method": {"kind": type(self.method).__name__, **method},
            "sent": [datagram.hex() for datagram in self.sent],
            "received": [datagram.hex() for datagram in self.received],
            "verdict": self.verdict,
        }

    @staticmethod
    def from_json(entry: dict[str, Any]) -> Conversation:
        """Read what `to_json` wrote."""
        method = dict(entry["method"])
        kind = _KINDS[method.pop("kind")]
        for key in _SECRETS:
            if method.get(key) is not None:
                method[key] = Secret(method[key])
        return Conversation(
            name=entry["name"],
            method=kind(**method),
            sent=tuple(map(bytes.fromhex, entry["sent"])),
            received=tuple(map(bytes.fromhex, entry["received"])),
            verdict=None if entry["verdict"] is None else (*entry["verdict"],),
        )


def recorded(file: str) -> dict[str, Conversation]:
    """Return the conversations of `ike.json` or `l2tp.json` by name."""
    entries = json.loads((DATA / file).read_text())
    return {entry["name"]: Conversation.from_json(entry) for entry in entries}


def shown(verdict: Verdict | None) -> tuple[str, str, str] | None:
    """Return a verdict as it is recorded."""
    return None if verdict is None else (str(verdict.outcome), str(verdict.reason), verdict.detail)
