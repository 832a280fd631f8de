"""JSON files that popctl keeps: one encoding for each value, and a checksum, so that anything else is damage."""

from __future__ import annotations

import hashlib
import json


def dump(document: object) -> bytes:
    """Return the one encoding of a document. Indented: an operator reads these files when nothing else works."""
    return json.dumps(document, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def checksum(payload: object) -> str:
    """Return the digest of a payload's encoding."""
    return f"sha256:{hashlib.sha256(dump(payload)).hexdigest()}"
