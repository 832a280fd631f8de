"""Entering a named network namespace with one thread, for hosts that keep the balancer apart, and for tests."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_NAMED = Path("/run/netns")


def enter(name: str) -> None:
    """Move the calling thread, and nothing else, into the namespace `name`. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(_NAMED / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)
    finally:
        os.close(descriptor)
