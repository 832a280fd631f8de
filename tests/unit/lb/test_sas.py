"""Whatever stands in charon's place, and whatever it does: `ViciError`, and within the time that was given."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingUnixStreamServer
from typing import Any

import pytest
from vici.protocol import Message

from popctl.lb import sas
from popctl.model.pop import ViciEndpoint
from popctl.senses.doctor import read_lifetimes
from popctl.vici.errors import ViciError
from popctl.wire.vici_meter import Kind
from tests.balancers import PLAN

Question = Callable[[ViciEndpoint, float], Coroutine[Any, Any, object]]
QUESTIONS: dict[str, Question] = {
    "count": lambda endpoint, limit: sas.count(endpoint, within_s=limit),
    "end": lambda endpoint, limit: sas.end(endpoint, within_s=limit),
    "refused": lambda endpoint, limit: sas.refused(endpoint, within_s=limit),
    "walk": lambda endpoint, limit: sas.walk(endpoint, 0, (PLAN,), 7, within_s=limit),
}


def packet(kind: Kind, message: dict[str, object] | None = None, event: str = "") -> bytes:
    """Return one packet as charon sends it."""
    name = bytes([len(event)]) + event.encode() if event else b""
    body = bytes([kind]) + name + Message.serialize(message or {})
    return struct.pack("!I", len(body)) + body


def listed(*sas_of_charon: dict[str, object]) -> bytes:
    """Return the answer to `list-sas`, and to what is said before and after it."""
    events = b"".join(packet(Kind.EVENT, {"net": sa}, "list-sa") for sa in sas_of_charon)
    return packet(Kind.CONFIRMED) + events + packet(Kind.ANSWER) + packet(Kind.CONFIRMED)


@asynccontextmanager
async def charon(directory: Path, says: bytes, *, stays: bool) -> AsyncIterator[ViciEndpoint]:
    """Serve somebody who says this to everyone, and then nothing more: leaves, or stays without a word."""
    held = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append((reader, writer))
        writer.write(says)
        if stays:
            return
        writer.write_eof()

    path = directory / "vici"
    server = await asyncio.start_unix_server(serve, path)
    try:
        yield ViciEndpoint(path=path)
    finally:
        server.close()
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize(
    "says",
    [
        pytest.param(b"\0\0\0\0", id="empty packet"),
        pytest.param(b"\0\0\0\x01\x06", id="unknown event"),
        pytest.param(b"\0\0\0\x01\x02", id="unknown command"),
        pytest.param(b"\0\0\0\x03\x01\x03\x05", id="cut message"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b"", id="nothing"),
        pytest.param(packet(Kind.ANSWER, {"counters": {"": {"invalid-spi": "x"}}}), id="no number"),
        pytest.param(packet(Kind.ANSWER, {"success": "no", "errmsg": "busy"}), id="refused"),
        pytest.param(listed({"state": "ESTABLISHED", "child-sas": "none"}), id="no section"),
        pytest.param(listed({"state": "ESTABLISHED", "child-sas": {"a": "b"}}), id="no section of a child"),
        pytest.param(
            listed({"state": "ESTABLISHED", "established": "x", "responder-spi": "zz", "child-sas": {}}), id="no hex"
        ),
    ],
)
async def test_an_odd_answer_is_an_error_of_vici_that_names_the_socket(
    tmp_path: Path, question: Question, says: bytes
) -> None:
    async with charon(tmp_path, says, stays=False) as endpoint:
        with pytest.raises(ViciError, match=r"unix://.*/vici: "):
            await question(endpoint, 10.0)


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("says", [b"", b"\0\0", b"\0\0\0\x09\x01", listed({"state": "CONNECTING"})[:-7]])
async def test_who_falls_silent_in_the_middle_of_an_answer_holds_nobody(
    tmp_path: Path, question: Question, says: bytes
) -> None:
    async with charon(tmp_path, says, stays=True) as endpoint, asyncio.timeout(10):
        with pytest.raises(ViciError, match=r"no answer within 0\.1 s|not a VICI packet|does not know"):
            await question(endpoint, 0.1)


@pytest.mark.parametrize(("total", "busy"), [(3, 0), (5, 2), (2, 0)])
async def test_what_is_listed_is_counted_with_its_age_and_what_is_busy_without(
    tmp_path: Path, total: int, busy: int
) -> None:
    says = listed({"state": "ESTABLISHED", "established": "60"}, {"state": "CONNECTING"}, {"state": "ESTABLISHED"})
    stats = packet(Kind.ANSWER, {"ikesas": {"total": str(total), "half-open": "1"}})
    async with charon(tmp_path, says + stats, stays=True) as endpoint:
        assert await sas.count(endpoint) == sas.SaCount(ages_s=(60.0, 0.0), busy=busy)


@contextmanager
def silent(path: Path, says: bytes) -> Iterator[None]:
    """Serve the same from a thread, for whoever has an event loop of their own."""
    over = threading.Event()

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(says)
            over.wait()

    with ThreadingUnixStreamServer(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            over.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("says", [b"\0\0", b"\0\0\0\0", b"\0\0\0\x01\x06"])
def test_the_doctor_waits_for_nobody_who_does_not_answer(tmp_path: Path, says: bytes) -> None:
    endpoint = ViciEndpoint(path=tmp_path / "vici")
    with silent(tmp_path / "vici", says):
        told, problems = read_lifetimes({"b0": endpoint}, within_s=0.1)
    assert (told, list(problems), problems["b0"].startswith(f"{endpoint}: ")) == ([], ["b0"], True)
