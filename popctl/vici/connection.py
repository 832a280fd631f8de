"""One VICI connection to a charon: questions in order, each with its answer.

The session of the `vici` package is not used: it blocks its thread without a limit once the first byte of an answer has
arrived, and a backend that loses power in the middle of one would hold it for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from popctl.vici.errors import CommandRefusedError, ViciError
from popctl.wire import vici_meter
from popctl.wire.errors import WireError
from popctl.wire.vici_meter import Kind, Received, Receiver
from popctl.wire.vici_values import sections, text

if TYPE_CHECKING:
    from popctl.model.pop import ViciEndpoint

_READ_BYTES: Final = 65536
_YIELD_EVERY: Final = 64
"""Events between two chances for others of this event loop."""


class Connection:
    """Made by `connect` or `asking`. Raises `OSError`, `EOFError` and `WireError`; no call has a limit of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._receiver = Receiver()
        self._waiting: list[Received] = []

    async def ask(self, command: str, message: Mapping[str, object] | None = None) -> Mapping[str, Any]:
        """Send a command and return its answer. Raises `CommandRefusedError`, too."""
        self._writer.write(vici_meter.request(command, message))
        return _answer(command, await self._packet())

    async def stream(
        self, command: str, event: str, message: Mapping[str, object] | None = None
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Send a command that is answered by events of this name, and yield them; to be read to its end."""
        await self._tell(vici_meter.register(event))
        self._writer.write(vici_meter.request(command, message))
        count = 0
        while (packet := await self._packet()).kind is Kind.EVENT:
            yield packet.body
            count += 1
            if count % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        _answer(command, packet)
        await self._tell(vici_meter.unregister(event))

    async def sas(self) -> AsyncGenerator[Mapping[str, Any], None]:
        """Yield every IKE SA with its child SAs. One that is busy is left out rather than waited for."""
        async with aclosing(self.stream("list-sas", "list-sa", {"noblock": "yes"})) as events:
            async for body in events:
                for sa in sections(body, "child-sas"):
                    yield sa

    async def _tell(self, request: bytes) -> None:
        self._writer.write(request)
        while (answer := await self._packet()).kind is Kind.EVENT:
            pass
        if answer.kind is not Kind.CONFIRMED:
            raise WireError("charon does not know the event", found=answer.kind.name)

    async def _packet(self) -> Received:
        while not self._waiting:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise EOFError("the connection was closed")
            self._waiting += self._receiver.receive(data)
        return self._waiting.pop(0)

    def close(self) -> None:
        """Close at once; whoever does not read what was asked cannot hold the socket open."""
        self._writer.transport.abort()


def _answer(command: str, packet: Received) -> Mapping[str, Any]:
    if packet.kind is not Kind.ANSWER:
        raise WireError(f"charon does not know {command}", found=packet.kind.name)
    if packet.body.get("success", b"yes") != b"yes":
        raise CommandRefusedError(f"{command}: {text(packet.body, 'errmsg')}")
    return packet.body


async def connect(endpoint: ViciEndpoint) -> Connection:
    """Open a connection. Raises `OSError`; waits as long as the kernel does."""
    if endpoint.path is not None:
        return Connection(*await asyncio.open_unix_connection(str(endpoint.path)))
    return Connection(*await asyncio.open_connection(endpoint.host, endpoint.port))


@asynccontextmanager
async def asking(endpoint: ViciEndpoint, within_s: float) -> AsyncIterator[Connection]:
    """Provide a connection; whatever is asked on it has ended after `within_s` seconds altogether.

    Raises:
        ViciError: it failed, or took longer.
    """
    try:
        async with asyncio.timeout(within_s):
            connection = await connect(endpoint)
            try:
                yield connection
            finally:
                connection.close()
    except TimeoutError as error:
        raise ViciError(f"{endpoint}: {str(error) or f'no answer within {within_s:g} s'}") from error
    except (OSError, EOFError, WireError, CommandRefusedError) as error:
        raise ViciError(f"{endpoint}: {str(error) or type(error).__name__}") from error
