"""HTTP prober: one GET on a fresh connection, judged by its status (RFC 9110 section 15)."""

from __future__ import annotations

import socket
import ssl
import time
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from popctl.model.observation import Outcome
from popctl.model.probe import Http
from popctl.model.reason import Reason
from popctl.senses.failure import printable
from popctl.senses.prober import Result, Target, failed

if TYPE_CHECKING:
    from popctl.model.instant import Instant
    from popctl.model.route import Address

BODY_BYTES_MAX: Final = 65536
"""More of a body is not read: the status has been seen, and an endless body must not hold us."""

_NOT_HTTP: Final = (
    aiohttp.ClientConnectorSSLError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientResponseError,
    aiohttp.ServerDisconnectedError,
)


class HttpProber:
    """Asks the backend itself: a name in the URL is for the Host field and TLS; the connection goes to the backend.

    An IP address in the URL is taken as written, for a status page on another address. No redirects: they would let
    another host answer for this one. No proxy from the environment, for the same reason.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        """Verify certificates against `tls`, by default against the host's authorities, read when first needed."""
        self._tls = tls

    async def run(self, target: Target, *, deadline: Instant) -> Result:  # noqa: ARG002 - run_probe keeps the deadline
        """GET once. Errors of the socket are raised; `run_probe` knows what each means."""
        if not isinstance(target.method, Http):
            raise TypeError(type(target.method).__name__)
        try:
            return await self._get(target, target.method)
        except aiohttp.ClientConnectorCertificateError as error:
            return failed(Reason.AUTHENTICATION_FAILED, printable(str(error)))
        except _NOT_HTTP as error:
            return failed(Reason.GARBAGE, printable(f"{type(error).__name__}: {error}"))

    async def _get(self, target: Target, method: Http) -> Result:
        began = time.perf_counter()
        async with (
            self._session(target) as session,
            session.get(method.url, allow_redirects=False) as response,
        ):
            await _read_at_most(response.content, BODY_BYTES_MAX)
            rtt_s = time.perf_counter() - began
        if response.status in method.statuses:
            return Result(Outcome.PASS, Reason.ANSWERED, str(response.status), rtt_s)
        detail = printable(f"{response.status} {response.reason}")
        return Result(Outcome.FAIL, Reason.HTTP_STATUS, detail, rtt_s)

    def _session(self, target: Target) -> aiohttp.ClientSession:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        connector = aiohttp.TCPConnector(
            ssl=self._tls,
            resolver=_Always(target.address),
            use_dns_cache=False,
            force_close=True,
            local_addr=(str(target.source), 0) if target.source is not None else None,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "popctl-probe"},
            auto_decompress=False,
            trust_env=False,
        )


async def _read_at_most(content: aiohttp.StreamReader, limit: int) -> None:
    """Read the body and forget it, up to `limit` bytes."""
    while limit > 0:
        chunk = await content.read(min(limit, 8192))
        if not chunk:
            return
        limit -= len(chunk)


class _Always(AbstractResolver):
    """Resolves every name to one address."""

    def __init__(self, address: Address) -> None:
        self._address = address

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - one family
    ) -> list[ResolveResult]:
        own_family = socket.AF_INET6 if isinstance(self._address, IPv6Address) else socket.AF_INET
        return [
            ResolveResult(
                hostname=host,
                host=str(self._address),
                port=port,
                family=own_family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Nothing is held."""
