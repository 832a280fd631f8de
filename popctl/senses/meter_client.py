"""The agent's end of a backend's meter: one held connection, events the moment they come, reconnected for ever."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Final

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, UnixConnector

from popctl.model.meter import Heard, MeterAddress, MeterLost, TlsMeter, UnixMeter, Unread
from popctl.model.reason import Reason
from popctl.senses.meter_events import Emit, MeterEvents
from popctl.senses.meter_failure import unread
from popctl.wire import meter_api
from popctl.wire.errors import WireError
from popctl.wire.meter_api import DaemonChanged, Hello, Measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from aiohttp import BaseConnector

    from popctl.model.instant import Instant

_CONNECT_WITHIN_S: Final = 2.0
_RETRY_FIRST_S: Final = 0.2
_RETRY_MOST_S: Final = 5.0
_SILENT_INTERVALS: Final = 3.0


class MeterClient:
    """Listens to the meter of one backend."""

    def __init__(
        self,
        backend: int,
        address: MeterAddress,
        emit: Emit,
        *,
        clock: Callable[[], Instant],
        rng: Random,
        retry_most_s: float = _RETRY_MOST_S,
    ) -> None:
        """Prepare. `emit` is called in the event loop and must not block; `rng` jitters reconnects only."""
        self._backend = backend
        self._address = address
        self._emit = emit
        self._clock = clock
        self._rng = rng
        self._retry_most_s = retry_most_s
        self._events = MeterEvents(backend, emit)
        self._silent_after_s = _CONNECT_WITHIN_S
        self._told_lost = False
        self._heard = False

    @property
    def backend(self) -> int:
        """Id of the backend."""
        return self._backend

    @property
    def latest(self) -> Heard | None:
        """The latest snapshot; None before the first. May be read from another thread."""
        return self._events.latest

    async def run(self) -> None:
        """Listen until cancelled."""
        wait_s = _RETRY_FIRST_S
        while True:
            self._heard = False
            lost = await self._listen()
            if not self._told_lost:
                self._told_lost = True
                self._emit(MeterLost(backend=self._backend, reason=lost.reason, at=self._clock(), detail=lost.detail))
            wait_s = _RETRY_FIRST_S if self._heard else min(2 * wait_s, self._retry_most_s)
            await asyncio.sleep(wait_s * self._rng.uniform(0.5, 1.0))

    async def _listen(self) -> Unread:
        """Hold one connection for as long as it lasts; return why it ended."""
        self._silent_after_s = _CONNECT_WITHIN_S
        try:
            connector, url = self._connector()
            timeout = ClientTimeout(total=None, sock_connect=_CONNECT_WITHIN_S)
            async with ClientSession(connector=connector, timeout=timeout) as session, asyncio.timeout(None) as limit:
                limit.reschedule(self._deadline())
                async with session.get(url, allow_redirects=False) as response:
                    if response.status != 200:  # noqa: PLR2004 - HTTP status
                        return Unread(reason=Reason.HTTP_STATUS, detail=str(response.status))
                    buffer = b""
                    while data := await response.content.readany():
                        buffer = self._take(buffer + data)
                        limit.reschedule(self._deadline())
            return Unread(reason=Reason.REFUSED, detail="the meter closed the stream")
        except TimeoutError:
            return Unread(reason=Reason.TIMED_OUT, detail="the meter fell silent")
        except ssl.SSLError as error:
            return Unread(reason=Reason.AUTHENTICATION_FAILED, detail=str(error))
        except ClientError as error:
            return _of_client(error)
        except Exception as error:  # noqa: BLE001 - the boundary: whatever is raised, the meter is not heard
            return unread(error)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._silent_after_s

    def _connector(self) -> tuple[BaseConnector, str]:
        match self._address:
            case UnixMeter(path=path):
                return UnixConnector(path=str(path)), "http://meter/v1/stream"
            case TlsMeter() as tls:
                context = ssl.create_default_context(cafile=tls.authority)
                context.minimum_version = ssl.TLSVersion.TLSv1_3
                context.load_cert_chain(tls.certificate, tls.key)
                host = f"[{tls.host}]" if ":" in tls.host else tls.host
                return TCPConnector(ssl=context), f"https://{host}:{tls.port}/v1/stream"

    def _take(self, buffer: bytes) -> bytes:
        """Read every complete line; return the rest."""
        *lines, rest = buffer.split(b"\n")
        for line in lines:
            self._line(line)
        if len(rest) > meter_api.MAX_LINE:
            raise WireError("a line without an end", found=rest)
        return rest

    def _line(self, text: bytes) -> None:
        now = self._clock()
        match meter_api.decode_line(text):
            case Hello(interval_s=interval_s, daemons=daemons):
                self._heard, self._told_lost = True, False
                self._silent_after_s = _CONNECT_WITHIN_S + _SILENT_INTERVALS * max(interval_s, 0.0)
                for daemon in daemons:
                    self._events.daemon(daemon, now)
            case DaemonChanged(daemon=daemon, age_s=age_s):
                self._events.daemon(daemon, now - max(age_s, 0.0))
            case Measured(snapshot=snapshot, age_s=age_s):
                self._events.measured(snapshot, now - max(age_s, 0.0))
            case None:
                pass


def _of_client(error: ClientError) -> Unread:
    """Say what aiohttp's error means: mostly the one that it wraps."""
    wrapped = getattr(error, "os_error", None) or error.__cause__
    if isinstance(wrapped, ssl.SSLError):
        return Unread(reason=Reason.AUTHENTICATION_FAILED, detail=str(wrapped))
    if isinstance(wrapped, OSError):
        return unread(wrapped)
    return Unread(reason=Reason.REFUSED, detail=str(error))
