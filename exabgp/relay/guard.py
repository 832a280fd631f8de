"""The process beside the relay: it ends ExaBGP when the relay no longer turns."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, NoReturn

from console import quit_now

if TYPE_CHECKING:
    from allowlist import Config

GUARD_SLACK_S = 0.25


def start_guard(config: Config) -> int:
    """Fork the process that ends ExaBGP when this one no longer turns; returns the descriptor to beat on."""
    beat_read, beat_write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(beat_write, False)
    exabgp, relay = os.getppid(), os.getpid()
    if os.fork() != 0:
        os.close(beat_read)
        return beat_write
    os.close(beat_write)
    os.setpgid(0, 0)
    # The guard must not keep ExaBGP's pipes open: their end is how ExaBGP learns that the relay died.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return _guard(config, beat_read, os.pidfd_open(exabgp), os.pidfd_open(relay))


def _guard(config: Config, beat_fd: int, exabgp_fd: int, relay_fd: int) -> NoReturn:
    poll = select.poll()
    poll.register(beat_fd, select.POLLIN)
    while poll.poll((config.lease_s + GUARD_SLACK_S) * 1000):
        if not os.read(beat_fd, 1 << 12):
            os._exit(0)  # the relay ended; ExaBGP knows
    if config.hold:
        quit_now("the relay hangs: routes are held, as this site chose")
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(exabgp_fd, signal.SIGTERM)
        select.select([exabgp_fd], [], [], GUARD_SLACK_S)
        signal.pidfd_send_signal(exabgp_fd, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(relay_fd, signal.SIGKILL)
    quit_now("the relay hung: ExaBGP was ended")
