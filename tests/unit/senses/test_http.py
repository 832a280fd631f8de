"""The HTTP prober against real servers, well-behaved and not."""

from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
import time
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from popctl.model.observation import Outcome
from popctl.model.probe import Exec, Http, ProbeKey
from popctl.model.reason import Reason
from popctl.senses.http import HttpProber
from popctl.senses.prober import Result, Target
from popctl.senses.run import run_probe
from tests.unit.senses.peers import open_descriptors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

OK = frozenset({200, 204})


class Server:
    """Reads one request and sends fixed bytes, again and again if told so."""

    def __init__(self, reply: bytes, *, endless: bool = False, silent: bool = False) -> None:
        self.reply = reply
        self.endless = endless
        self.silent = silent
        self.requests: list[bytes] = []
        self.served: list[asyncio.Task[None] | None] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.served.append(asyncio.current_task())
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.reply)
            await writer.drain()
            while self.endless:
                writer.write(bytes(4096))
                await writer.drain()
            if self.silent:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@asynccontextmanager
async def serving(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    made = await asyncio.start_server(server.serve, "127.0.0.2", 0, ssl=tls)
    try:
        yield made.sockets[0].getsockname()[1]
    finally:
        made.close()
        await asyncio.gather(*filter(None, server.served), return_exceptions=True)


async def get(
    port: int,
    *,
    url: str = "http://status.example.net:{port}/health?deep=1",
    within_s: float = 10.0,
    made: HttpProber | None = None,
) -> Result:
    method = Http(url=url.format(port=port), statuses=OK)
    whom = Target(key=ProbeKey(1, "http"), method=method, address=ip_address("127.0.0.2"))
    probers = {Http: made or HttpProber()}
    return await run_probe(probers, whom, deadline=time.monotonic() + within_s, clock=time.monotonic)


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_an_accepted_status_passes_and_the_name_in_the_url_goes_to_the_backend() -> None:
    server = Server(response("200 OK", b"fine"))
    async with serving(server) as port:
        result = await get(port)
    assert (result.outcome, result.reason, result.detail) == (Outcome.PASS, Reason.ANSWERED, "200")
    assert server.requests[0].startswith(b"GET /health?deep=1 HTTP/1.1\r\n")
    assert f"Host: status.example.net:{port}".encode() in server.requests[0]


async def test_an_address_in_the_url_is_taken_as_written() -> None:
    async with serving(Server(response("204 No Content"))) as port:
        assert (await get(port, url="http://127.0.0.2:{port}/")).reason is Reason.ANSWERED
        assert (await get(port, url="http://127.0.0.3:{port}/")).reason is Reason.REFUSED


async def test_another_status_fails() -> None:
    async with serving(Server(response("503 Service\x01Unavailable"))) as port:
        result = await get(port)
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.HTTP_STATUS)
    assert result.detail.startswith("503")
    assert result.detail.isprintable()


async def test_a_redirect_is_a_status_like_any_other_and_is_not_followed() -> None:
    server = Server(response("302 Found", b"", "Location: /elsewhere"))
    async with serving(server) as port:
        result = await get(port)
    assert result.reason is Reason.HTTP_STATUS
    assert len(server.requests) == 1


async def test_an_endless_body_holds_nobody() -> None:
    async with serving(Server(b"HTTP/1.1 200 OK\r\n\r\n", endless=True)) as port:
        assert (await get(port)).reason is Reason.ANSWERED


@pytest.mark.parametrize(
    "reply",
    [
        b"\x00\xff garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["garbage", "truncated", "oversized header", "closed without a word"],
)
async def test_what_is_not_http_fails_as_garbage(reply: bytes) -> None:
    async with serving(Server(reply)) as port:
        result = await get(port)
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.GARBAGE)


async def test_a_server_that_accepts_and_says_nothing_times_out() -> None:
    async with serving(Server(b"", silent=True)) as port:
        for _ in range(20):
            result = await get(port, within_s=0.2)
            if result.reason is not Reason.OVERLOADED:
                break
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.TIMED_OUT)


async def test_a_reset_is_a_refusal() -> None:
    async with serving(Server(b"")) as port:
        pass
    assert (await get(port)).reason is Reason.REFUSED


async def test_a_url_that_cannot_be_read_says_nothing_about_the_backend() -> None:
    assert (await get(1, url="http://[::bad/")).reason is Reason.PROBE_ERROR


async def test_another_kind_of_method_says_nothing_about_the_backend() -> None:
    whom = Target(key=ProbeKey(1, "x"), method=Exec(argv=("true",)), address=ip_address("127.0.0.2"))
    result = await run_probe({Exec: HttpProber()}, whom, deadline=time.monotonic() + 9, clock=time.monotonic)
    assert result.reason is Reason.PROBE_ERROR


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make a certificate for status.example.net, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=status.example.net", "-addext", "subjectAltName=DNS:status.example.net",
         "-keyout", key, "-out", made],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    return made, key


@pytest.fixture
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture
def trusting(certificate: tuple[Path, Path]) -> Callable[[], HttpProber]:
    return lambda: HttpProber(tls=ssl.create_default_context(cafile=certificate[0]))


async def test_tls_with_a_trusted_certificate_passes(
    server_tls: ssl.SSLContext, trusting: Callable[[], HttpProber]
) -> None:
    async with serving(Server(response("200 OK")), server_tls) as port:
        result = await get(port, url="https://status.example.net:{port}/", made=trusting())
    assert result.reason is Reason.ANSWERED


async def test_tls_with_an_unknown_authority_or_another_name_fails(
    server_tls: ssl.SSLContext, trusting: Callable[[], HttpProber]
) -> None:
    async with serving(Server(response("200 OK")), server_tls) as port:
        unknown = await get(port, url="https://status.example.net:{port}/")
        other = await get(port, url="https://other.example.net:{port}/", made=trusting())
    assert (unknown.outcome, unknown.reason) == (Outcome.FAIL, Reason.AUTHENTICATION_FAILED)
    assert other.reason is Reason.AUTHENTICATION_FAILED


async def test_plain_text_where_tls_was_wanted_is_garbage(trusting: Callable[[], HttpProber]) -> None:
    server = await asyncio.start_server(_talks_first, "127.0.0.2", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        result = await get(port, url="https://status.example.net:{port}/", made=trusting())
    finally:
        server.close()
    assert (result.outcome, result.reason) == (Outcome.FAIL, Reason.GARBAGE)


async def _talks_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 not tls\r\n" * 4)
    await reader.read(1)
    writer.close()


async def test_many_runs_leave_no_descriptor_behind() -> None:
    gc.collect()
    made = HttpProber()
    async with serving(Server(response("200 OK", b"x" * 1000))) as port:
        await get(port, made=made)
        before = open_descriptors()
        for _ in range(200):
            assert (await get(port, made=made)).reason is Reason.ANSWERED
        # The server's side of the last connection may still be closing.
        assert open_descriptors() <= before + 1
