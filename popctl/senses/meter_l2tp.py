"""L2TP tunnels and sessions: from the kernel where it carries them, else from xl2tpd's control."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from popctl.model.meter import L2tpCount, Unread
from popctl.model.reason import Reason
from popctl.senses.meter_failure import unread
from popctl.wire import proc_text, xl2tpd_control

if TYPE_CHECKING:
    from collections.abc import Callable

    from popctl.model.instant import Instant

_READ_BYTES: Final = 65536
_MAX_ANSWER: Final = 4 * 2**20
_BACK_OFF_S: Final = 30.0
"""After a control that did not answer: requests that nobody reads would pile up in its fifo and then be read as one."""


class L2tpMeter:
    """Reads /proc/net/pppol2tp; without it asks the LNS of xl2tpd."""

    def __init__(
        self,
        *,
        clock: Callable[[], Instant],
        control: Path | None = None,
        lns: str = "default",
        proc: Path = Path("/proc"),
        timeout_s: float = 1.0,
    ) -> None:
        """Prepare. `control` is xl2tpd's fifo (`-C`); only its owner may write to it."""
        self._clock = clock
        self._control = control
        self._lns = lns
        self._table = proc / "net/pppol2tp"
        self._timeout_s = timeout_s
        self._quiet_until: Instant = 0.0

    async def read(self) -> L2tpCount | Unread:
        """Return what is open now."""
        try:
            return proc_text.pppol2tp(self._table.read_text())
        except FileNotFoundError as error:
            if self._control is None:
                return unread(error)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever is raised says that nothing was read
            return unread(error)
        return await self._ask(self._control)

    async def _ask(self, control: Path) -> L2tpCount | Unread:
        if self._clock() < self._quiet_until:
            return Unread(reason=Reason.TIMED_OUT, detail="the control did not answer a while ago")
        try:
            with tempfile.TemporaryDirectory(prefix="popctl-l2tp-") as directory:
                answer = Path(directory, "answer")
                os.mkfifo(answer, 0o600)
                async with asyncio.timeout(self._timeout_s):
                    return xl2tpd_control.status(await _conversation(control, answer, self._lns))
        except TimeoutError as error:
            self._quiet_until = self._clock() + _BACK_OFF_S
            return unread(error)
        except Exception as error:  # noqa: BLE001 - as above
            return unread(error)


async def _conversation(control: Path, answer: Path, lns: str) -> bytes:
    """Send one request and read its answer until xl2tpd closes it."""
    reading = os.open(answer, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        # Without a reader this fails at once (ENXIO): xl2tpd is gone and only its fifo is left.
        writing = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISFIFO(os.fstat(writing).st_mode):
                raise FileNotFoundError(errno.ENOENT, "no fifo", str(control))
            os.write(writing, xl2tpd_control.status_request(str(answer), lns))
        finally:
            os.close(writing)
        return await _until_closed(reading)
    finally:
        os.close(reading)


async def _until_closed(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    found = bytearray()
    while len(found) < _MAX_ANSWER:
        ready = loop.create_future()
        loop.add_reader(descriptor, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            break
        found += data
    return bytes(found)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
