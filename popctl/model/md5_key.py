"""What a TCP MD5 key (RFC 2385) may look like, so that kernel, ExaBGP and router take it for the same."""

from __future__ import annotations

from typing import Final

MD5_KEY_MOST: Final = 80
"""Linux takes no more."""
_UNQUOTABLE: Final = frozenset("\"'\\")
"""ExaBGP's configuration ends a word at any quotation mark, and reads escapes."""


def md5_key_flaw(key: str) -> str:
    """Say what is wrong with a key, without a part of it; empty when nothing is."""
    if not key.isascii():
        return "the key has characters outside ASCII, which routers encode differently"
    if not key or not key.isprintable():
        return "the key is empty or has control characters"
    if len(key) > MD5_KEY_MOST:
        return f"the key has {len(key)} characters; TCP MD5 (RFC 2385) on Linux takes at most {MD5_KEY_MOST}"
    if _UNQUOTABLE & set(key):
        return "the key has a quotation mark (\" or ') or a backslash, which ExaBGP's configuration cannot hold"
    return ""
