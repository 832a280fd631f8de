"""What a client can do to an HTTP server of ours before any handler is asked, and after one has answered."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web

from popctl.listen.serve import HANDSHAKE_WITHIN_S, Bounds, serving
from popctl.model.listen import TlsEndpoint, UnixEndpoint
from popctl.wire.agent_api import Problem, decode
from tests.certificates import CLIENT, SERVER, Authority
from tests.eventually import eventually_async

HUGE = b"x" * (16 * 2**20)


@asynccontextmanager
async def server(path: Path, bounds: Bounds | None = None) -> AsyncIterator[Path]:
    async def huge(_: web.Request) -> web.Response:
        return web.Response(body=HUGE)

    async def bug(_: web.Request) -> web.Response:
        raise RuntimeError("secret detail")

    app = web.Application()
    app.add_routes([web.get("/huge", huge), web.get("/bug", bug), web.post("/huge", huge)])
    async with serving(app, UnixEndpoint(path=path), bounds):
        yield path


async def exchange(path: Path, request: bytes) -> tuple[int, str, bytes]:
    """Return status, media type and body of the answer, after which the connection must end."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    media = next(line.partition(": ")[2] for line in lines if line.lower().startswith("content-type"))
    return int(lines[0].split()[1]), media, body


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400, "not-http"),
        (b"GET /huge HTTP/9.9\r\n\r\n", 400, "not-http"),
        (b"GET /huge HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 400, "not-http"),
        (b"GET /huge HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 400, "not-http"),
        (b"POST /huge HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "not-http"),
        (
            b"POST /huge HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            400,
            "not-http",
        ),
        (b"POST /huge HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n", 417, "expectation-failed"),
        (b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not-found"),
        (b"PUT /huge HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method-not-allowed"),
        (b"GET /bug HTTP/1.1\r\nHost: a\r\n\r\n", 500, "internal-server-error"),
    ],
)
async def test_every_refusal_is_a_problem_and_ends_the_connection(
    tmp_path: Path, request_bytes: bytes, status: int, code: str
) -> None:
    async with server(tmp_path / "s") as path:
        found, media, body = await exchange(path, request_bytes)
    problem = decode(body, Problem)
    assert (found, media, problem.status, problem.code) == (status, "application/problem+json", status, code)
    assert b"secret detail" not in body


async def test_burst_of_one_host_keeps_no_other_one_out(tmp_path: Path) -> None:
    """Connections that wait in the kernel's queue come all at once; those that are refused are refused at once."""
    authority = Authority(tmp_path)
    server_files, client_files = authority.issue("server", SERVER), authority.issue("alice", CLIENT)
    endpoint = TlsEndpoint(
        address=ip_address("127.0.0.1"),
        port=0,
        certificate=server_files.certificate,
        key=server_files.key,
        authority=authority.ca,
    )
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.check_hostname = False
    context.load_cert_chain(client_files.certificate, client_files.key)
    async with serving(web.Application(), endpoint) as listener:
        assert listener.port is not None
        with ExitStack() as silent:
            address = ("127.0.0.1", listener.port)
            connections = [silent.enter_context(socket.create_connection(address)) for _ in range(40)]
            for one in connections:
                one.setblocking(False)  # noqa: FBT003 - the standard library's signature
            await eventually_async(lambda: sum(map(hung_up_on, connections)) == 32)
            async with asyncio.timeout(HANDSHAKE_WITHIN_S / 2):
                # The other host: no handshake of the first one has ended by then.
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", listener.port, ssl=context, local_addr=("127.0.0.2", 0)
                )
            writer.close()


def hung_up_on(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def test_client_that_does_not_take_its_answer_is_hung_up_on(tmp_path: Path) -> None:
    async with server(tmp_path / "s", Bounds(connections=1, taken_within_s=0.2)) as path:
        reader, writer = await asyncio.open_unix_connection(path, limit=1024)
        writer.write(b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readline()

        async def somebody_else_is_served() -> bool:
            try:
                status, _, _ = await exchange(path, b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
            except (OSError, StopIteration, ValueError, IndexError):
                return False
            return status == 404

        await eventually_async(somebody_else_is_served)
        writer.close()


async def test_client_that_takes_its_answer_in_time_gets_all_of_it(tmp_path: Path) -> None:
    async with server(tmp_path / "s", Bounds(connections=1)) as path:
        status, _, body = await exchange(path, b"GET /huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert (status, len(body)) == (200, len(HUGE))


async def test_place_of_a_connection_that_ended_is_free_again(tmp_path: Path) -> None:
    async with server(tmp_path / "s", Bounds(connections=2)) as path:
        for _ in range(10):
            await eventually_async(lambda: exchange(path, b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"))
