"""What the relay says to people: one line on stderr, which is ExaBGP's."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def log(text: str) -> None:
    """Say one line on stderr, which is ExaBGP's."""
    sys.stderr.write(f"popctl-relay: {text}\n")
    sys.stderr.flush()


def quit_now(text: str, status: int = 1) -> NoReturn:
    """Leave at once, threads or not. ExaBGP starts a successor, or is gone itself."""
    log(text)
    os._exit(status)
