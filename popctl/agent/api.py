"""The operator API: HTTP on a unix socket and, behind mutual TLS, on a TCP port.

Reads the World between turns; changes go through the loop's queue.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from ipaddress import ip_network
from typing import Final

import structlog
from aiohttp import web

from popctl.agent import api_problems
from popctl.agent.api_document import document
from popctl.agent.api_gate import Gate, caller_of, end_of, read_order, reason_of
from popctl.agent.api_orders import Clocks, Desk
from popctl.agent.api_peer import CertificateDoor, Door, LocalDoor
from popctl.agent.api_recent import LastSeen
from popctl.agent.api_routes import ANY_QUERY, DEFAULT_LINES, MAX_LINES, OPERATIONS
from popctl.agent.api_status import Build, Reporter
from popctl.agent.audit_log import AuditLog
from popctl.agent.intents import IntentStore
from popctl.agent.loop import Loop
from popctl.agent.metrics import Reading
from popctl.agent.sa_watch import SaWatch
from popctl.config import kept_files
from popctl.listen.errors import ListenError
from popctl.listen.serve import Bounds, Listener, serving, serving_on
from popctl.model.listen import RemoteApi
from popctl.model.observation import IntentKind
from popctl.model.pop import Pop
from popctl.model.route import Prefix
from popctl.wire.agent_api import FieldProblem, WhoAmI, encode
from popctl.wire.agent_order import show

TURNED_WITHIN_S: Final = 2.0
"""Beyond this the loop counts as hung for `/healthz`; it turns every 0.5 s when nothing happens."""
BOUNDS: Final = Bounds()
REOPEN_EVERY_S: Final = 5.0

_LOG = structlog.get_logger("popctl.api")


class Api:
    """The operations and what stands behind them."""

    def __init__(
        self,
        *,
        pop: Pop,
        loop: Loop,
        store: IntentStore,
        last_seen: LastSeen,
        metrics: Callable[[], bytes],
        clocks: Clocks,
        build: Build,
        watch: SaWatch | None = None,
    ) -> None:
        self._pop = pop
        self._metrics = metrics
        self._clocks = clocks
        self._build = build
        self._reporter = Reporter(pop, loop, last_seen, clocks.monotonic, build, watch)
        self._store = store
        self.audit = AuditLog(store.path.with_name(kept_files.AUDIT), wall=clocks.wall, monotonic=clocks.monotonic)
        self.desk = Desk(pop, loop, store, self._reporter, clocks, self.audit)
        """Where orders are taken."""
        self.remote: Listener | None = None
        """The listener behind mutual TLS, once it is open."""
        self.not_opened = 0
        """Times that it could not be opened."""

    async def run(self, held: socket.socket) -> None:
        """Serve until cancelled, on the unix socket that the agent holds already, and on the port."""
        async with self.open(held):
            await self.desk.expire()

    @asynccontextmanager
    async def open(self, held: socket.socket) -> AsyncIterator[None]:
        """Serve for the length of the context."""
        async with serving_on(held, self._application(LocalDoor()), BOUNDS), asyncio.TaskGroup() as group:
            elsewhere = self._pop.remote_api
            remote = None if elsewhere is None else group.create_task(self._stay_open(elsewhere, group))
            try:
                yield
            finally:
                if remote is not None:
                    remote.cancel()

    async def _stay_open(self, remote: RemoteApi, group: asyncio.TaskGroup) -> None:
        """Serve engineers elsewhere, as soon as it can be done and for as long as this is not cancelled.

        An address that is not there yet, or a port that is taken, must not keep the PoP from serving.
        """
        app_of = partial(self._application, CertificateDoor(remote.roles))

        def stranger(host: str, problem: str) -> None:
            # A disk that hangs must not keep others from their handshakes. So many wait for it at most as have a line.
            group.create_task(self.audit.stranger(host, problem, self._standing()))

        while True:
            try:
                async with serving(app_of(), remote.endpoint, BOUNDS, stranger=stranger) as self.remote:
                    _LOG.info("API is open", endpoint=str(remote.endpoint))
                    await asyncio.Event().wait()
            except ListenError as error:
                self.not_opened += 1
                _LOG.error("API is closed to engineers elsewhere", error=str(error), again_in_s=REOPEN_EVERY_S)
            await asyncio.sleep(REOPEN_EVERY_S)

    def _application(self, door: Door) -> web.Application:
        gate = Gate(
            door=door,
            pop_name=self._pop.name,
            audit=self.audit,
            standing=self._standing,
            known_query=_known_query,
            clock=self._clocks.monotonic,
        )
        app = gate.application()
        for one in OPERATIONS:
            app.router.add_route(one.method, one.route, getattr(self, one.handler))
            if one.method == "GET":
                app.router.add_route("HEAD", one.route, getattr(self, one.handler))
        return app

    def _standing(self) -> list[str]:
        return [f"{one.kind} {one.target}" for one in self._store.intents]

    async def status(self, _: web.Request) -> web.Response:
        """Answer `GET /v1/status`."""
        return await _json(self._reporter.status())

    async def why(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/why/{prefix}`."""
        why = self._reporter.why(_prefix(request.match_info["prefix"]))
        if why is None:
            known = [str(prefix) for service in self._pop.services for prefix in service.prefixes]
            raise api_problems.unknown_target("prefix", request.match_info["prefix"], known)
        return await _json(why)

    async def fleet(self, _: web.Request) -> web.Response:
        """Answer `GET /v1/fleet`."""
        fleet = self._reporter.fleet()
        if fleet is None:
            raise api_problems.no_fleet()
        return await _json(fleet)

    async def preview(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/preview/withdraw/{service}`."""
        found = self._reporter.preview(request.match_info["service"])
        if not found.services:
            known = [service.name for service in self._pop.services]
            raise api_problems.unknown_target("service", request.match_info["service"], known)
        return await _json(found)

    async def intents(self, _: web.Request) -> web.Response:
        """Answer `GET /v1/intents`."""
        return await _json(self._reporter.intents())

    async def whoami(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/whoami`."""
        caller = caller_of(request)
        return await _json(WhoAmI(name=await caller.name(), role=str(caller.role), pop=self._pop.name))

    async def history(self, request: web.Request) -> web.Response:
        """Answer `GET /v1/audit`."""
        return await _json(await self.audit.last(_lines(request.query.getall("last", []))))

    async def place(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/intents`."""
        order = await read_order(request)
        return await _json(await self.desk.place(order, await caller_of(request).name()))

    async def extend(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/intents/withdraw/{target}/extend`."""
        target, reason, expires_s = request.match_info["target"], reason_of(request), end_of(request)
        return await _json(await self.desk.extend(target, expires_s, reason, await caller_of(request).name()))

    async def lift(self, request: web.Request) -> web.Response:
        """Answer `DELETE /v1/intents/{kind}/{target}`."""
        kinds = tuple(IntentKind)
        if request.match_info["kind"] not in kinds:
            raise api_problems.unknown_target("kind of order", request.match_info["kind"], kinds)
        kind, target = IntentKind(request.match_info["kind"]), request.match_info["target"]
        return await _json(await self.desk.lift(kind, target, reason_of(request), await caller_of(request).name()))

    async def reset(self, request: web.Request) -> web.Response:
        """Answer `POST /v1/state/reset`."""
        return await _json(await self.desk.reset(reason_of(request), await caller_of(request).name()))

    async def scrape(self, _: web.Request) -> web.Response:
        """Answer `GET /metrics`."""
        # In a thread: text for hundreds of backends takes long enough to make a probe late.
        text = await asyncio.to_thread(self._metrics)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def healthz(self, _: web.Request) -> web.Response:
        """Answer `GET /healthz`."""
        check = self._reporter.check(TURNED_WITHIN_S)
        return await _json(check, status=200 if check.healthy else api_problems.UNAVAILABLE)

    async def document(self, _: web.Request) -> web.Response:
        """Answer `GET /openapi.json`."""
        body = await asyncio.to_thread(document, self._build.version)
        return web.Response(body=body, content_type="application/vnd.oai.openapi+json")


def _known_query(request: web.Request) -> frozenset[str] | None:
    resource = request.match_info.route.resource
    if resource is None:
        return None
    method = "GET" if request.method == "HEAD" else request.method
    return _canonical().get((method, resource.canonical))


def readings(api: Callable[[], Api]) -> tuple[Reading, ...]:
    """Return what the API counts of itself, for the metrics, which are made before it."""
    return (
        Reading("popctl_audit_failures", "Lines of the audit file not written.", lambda: api().audit.failures),
        Reading(
            "popctl_api_handshakes_refused",
            "Connections to the API's TCP port without a good certificate.",
            lambda: remote.refused_handshakes if (remote := api().remote) is not None else 0,
        ),
        Reading("popctl_api_not_opened", "Times the API's TCP port could not be opened.", lambda: api().not_opened),
    )


@cache
def _canonical() -> dict[tuple[str, str], frozenset[str]]:
    return {(one.method, one.path): one.query for one in OPERATIONS if one.path not in ANY_QUERY}


async def _json(value: object, status: int = 200) -> web.Response:
    # Values are frozen, so another thread may read them while the loop goes on.
    body = await asyncio.to_thread(encode, value)
    return web.Response(body=body, status=status, content_type="application/json")


def _lines(written: list[str]) -> int:
    if not written:
        return DEFAULT_LINES
    text = written[0]
    if len(written) == 1 and text.isascii() and text.isdigit() and len(text) <= len(str(MAX_LINES)):
        count = int(text)
        if 1 <= count <= MAX_LINES:
            return count
    remedy = f"write a number from 1 to {MAX_LINES}, once"
    problem = FieldProblem(key="?last", found=show(written), problem="not a number of lines", remedy=remedy)
    raise api_problems.bad_request((problem,))


def _prefix(text: str) -> Prefix:
    try:
        return ip_network(text)
    except ValueError as error:
        remedy = "write a prefix such as 192.0.2.0/24 or 2001:db8::/48, or an address"
        problem = FieldProblem(key="{prefix}", found=show(text), problem=str(error)[:200], remedy=remedy)
        raise api_problems.bad_request((problem,)) from error
