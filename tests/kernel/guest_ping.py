"""Pings through one session at a fixed pace, as long as something happens and a while longer."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from tests.eventually import eventually

AT_LEAST = 100
AFTERWARDS = 20
"""How many more must be answered after the event, so that no loss can hide at the end."""
_EVERY_S = "0.04"


class Pings:
    """A running ping."""

    def __init__(self, namespace: str, peer: str) -> None:
        self._words = ["ip", "netns", "exec", namespace, "ping", "-n", "-i", _EVERY_S, peer]
        self.lost: set[int] = set()
        """The sequence numbers that did not come back although later ones did; known when finished."""
        self._out = Path(tempfile.mkstemp(prefix="ping-")[1])

    def __enter__(self) -> Self:
        """Start, and wait for answers: the session works before anything happens to it."""
        with self._out.open("w") as out:
            self._process = subprocess.Popen(self._words, stdout=out, stderr=subprocess.STDOUT)
        eventually(lambda: len(self.answered()) > 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._out.unlink()

    def answered(self) -> set[int]:
        """Return the sequence numbers that came back."""
        return {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", self._out.read_text())}

    def finish(self) -> None:
        """Wait until enough came back since the event; a session that is dead fails here."""
        enough = max(AT_LEAST, max(self.answered()) + AFTERWARDS)
        eventually(lambda: max(self.answered()) >= enough, within_s=30, every_s=0.1)
        answered = self.answered()
        self.lost = set(range(1, max(answered))) - answered
