"""The operator API: HTTP on a unix socket. Reads the World between turns; changes go through the loop's queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from typing import Final

import structlog
from aiohttp import web

from popctl.agent import api_problems
from popctl.agent.api_orders import Clocks, Desk
from popctl.agent.api_peer import RateLimit, peer_uid, user_name
from popctl.agent.api_problems import RefusedError
from popctl.agent.api_recent import LastSeen
from popctl.agent.api_server import serving
from popctl.agent.api_status import Build, Reporter
from popctl.agent.intents import IntentStore
from popctl.agent.loop import Loop
from popctl.agent.sa_watch import SaWatch
from popctl.model.observation import IntentKind
from popctl.model.pop import Pop
from popctl.model.route import Prefix
from popctl.wire.agent_api import FieldProblem, Problem, encode
from popctl.wire.agent_order import OrderError, decode_order, reason_problem, show

_LOG = structlog.get_logger("popctl.api")

MAX_BODY_BYTES = 64 * 1024
MAX_REQUESTS_AT_ONCE = 32
BODY_WITHIN_S = 2.0
TURNED_WITHIN_S = 2.0
"""Beyond this the loop counts as hung for `/healthz`; it turns every 0.5 s when nothing happens."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_QUESTIONS: Final = frozenset(("GET", "HEAD"))


class Api:
    """The routes and what stands behind them."""

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
        self._reporter = Reporter(pop, loop, last_seen, clocks.monotonic, build, watch)
        self.desk = Desk(pop, loop, store, self._reporter, clocks)
        """Where orders are taken."""
        self._question_rate = RateLimit(clocks.monotonic)
        self._order_rate = RateLimit(clocks.monotonic)
        self._running = 0

    async def run(self) -> None:
        """Serve on the PoP's API socket until cancelled.

        Raises:
            ApiSocketError: another agent listens there, or the path cannot be used.
        """
        async with serving(self.application(), self._pop.paths.api_socket):
            await self.desk.expire()

    def application(self) -> web.Application:
        """Return the application, not yet bound to anything."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._answer_for, self._bounded])
        app.add_routes(
            [
                web.get("/v1/status", self._status),
                web.get("/v1/why/{prefix:.+}", self._why),
                web.get("/v1/fleet", self._fleet),
                web.get("/v1/preview/withdraw/{service}", self._preview),
                web.get("/v1/intents", self._intents),
                web.post("/v1/intents", self._place),
                web.delete("/v1/intents/{kind}/{target}", self._lift),
                web.post("/v1/state/reset", self._reset),
                web.get("/metrics", self._scrape),
                web.get("/healthz", self._healthz),
            ]
        )
        return app

    @web.middleware
    async def _answer_for(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Turn every way to fail into one shape of answer. The one place that catches a bug of a handler."""
        try:
            return await handler(request)
        except RefusedError as error:
            return _problem(error.problem)
        except web.HTTPException as error:
            if error.status < api_problems.BAD_REQUEST:
                raise
            return _problem(_of_framework(error), allow=error.headers.get("Allow"))
        except Exception:  # noqa: BLE001 - a bug in an answer is logged and must not end the agent
            _LOG.exception("request failed", method=request.method, path=request.path[:200])
            return _problem(Problem(status=api_problems.OUR_FAULT, code="bug", title="popctl failed; see its log"))

    @web.middleware
    async def _bounded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        # Counted apart: a monitor that asks without end, as root as most things are, must not lock the operator out.
        rate = self._question_rate if request.method in _QUESTIONS else self._order_rate
        if not rate.admit(peer_uid(request.transport)):
            raise api_problems.too_many(rate.rate_per_s)
        if self._running >= MAX_REQUESTS_AT_ONCE:
            raise api_problems.busy(f"{self._running} requests are being answered")
        self._running += 1
        try:
            return await handler(request)
        finally:
            self._running -= 1

    async def _status(self, _: web.Request) -> web.Response:
        return await _json(self._reporter.status())

    async def _why(self, request: web.Request) -> web.Response:
        why = self._reporter.why(_prefix(request.match_info["prefix"]))
        if why is None:
            known = [str(prefix) for service in self._pop.services for prefix in service.prefixes]
            raise api_problems.unknown_target("prefix", request.match_info["prefix"], known)
        return await _json(why)

    async def _fleet(self, _: web.Request) -> web.Response:
        fleet = self._reporter.fleet()
        if fleet is None:
            raise api_problems.no_fleet()
        return await _json(fleet)

    async def _preview(self, request: web.Request) -> web.Response:
        found = self._reporter.preview(request.match_info["service"])
        if not found.services:
            known = [service.name for service in self._pop.services]
            raise api_problems.unknown_target("service", request.match_info["service"], known)
        return await _json(found)

    async def _intents(self, _: web.Request) -> web.Response:
        return await _json(self._reporter.intents())

    async def _place(self, request: web.Request) -> web.Response:
        try:
            order = decode_order(await _body(request))
        except OrderError as error:
            raise api_problems.bad_request(error.problems) from error
        return await _json(await self.desk.place(order, await _owner(request)))

    async def _lift(self, request: web.Request) -> web.Response:
        kinds = tuple(IntentKind)
        if request.match_info["kind"] not in kinds:
            raise api_problems.unknown_target("kind of order", request.match_info["kind"], kinds)
        kind, target = IntentKind(request.match_info["kind"]), request.match_info["target"]
        return await _json(await self.desk.lift(kind, target, _reason(request), await _owner(request)))

    async def _reset(self, request: web.Request) -> web.Response:
        return await _json(await self.desk.reset(_reason(request), await _owner(request)))

    async def _scrape(self, _: web.Request) -> web.Response:
        # In a thread: text for hundreds of backends takes long enough to make a probe late.
        text = await asyncio.to_thread(self._metrics)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _healthz(self, _: web.Request) -> web.Response:
        check = self._reporter.check(TURNED_WITHIN_S)
        return await _json(check, status=200 if check.healthy else api_problems.UNAVAILABLE)


async def _json(value: object, status: int = 200) -> web.Response:
    # Values are frozen, so another thread may read them while the loop goes on.
    body = await asyncio.to_thread(encode, value)
    return web.Response(body=body, status=status, content_type="application/json")


def _problem(problem: Problem, allow: str | None = None) -> web.Response:
    headers = {} if allow is None else {"Allow": allow}
    response = web.Response(
        body=encode(problem), status=problem.status, content_type="application/problem+json", headers=headers
    )
    if problem.status >= api_problems.BAD_REQUEST:
        # A body that was refused unread would be taken for the next request.
        response.force_close()
    return response


def _of_framework(error: web.HTTPException) -> Problem:
    if error.status == api_problems.TOO_LARGE:
        detail = f"a body of at most {MAX_BODY_BYTES} bytes is read"
        return Problem(status=error.status, code="too-large", title="The body is too large", detail=detail)
    return Problem(status=error.status, code=error.reason.lower().replace(" ", "-"), title=error.reason)


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            return await request.read()
    except TimeoutError as error:
        problem = FieldProblem(
            key="(body)", found="no end", problem=f"not complete within {BODY_WITHIN_S:.0f} s", remedy="send it at once"
        )
        raise api_problems.bad_request((problem,)) from error


async def _owner(request: web.Request) -> str:
    return await asyncio.to_thread(user_name, peer_uid(request.transport))


def _reason(request: web.Request) -> str:
    reasons = request.query.getall("reason", [])
    problem = reason_problem(reasons[0] if len(reasons) == 1 else reasons or None, key="?reason")
    if problem is not None:
        raise api_problems.bad_request((problem,))
    return reasons[0].strip()


def _prefix(text: str) -> Prefix:
    try:
        return ip_network(text)
    except ValueError as error:
        remedy = "write a prefix such as 192.0.2.0/24 or 2001:db8::/48, or an address"
        problem = FieldProblem(key="{prefix}", found=show(text), problem=str(error)[:200], remedy=remedy)
        raise api_problems.bad_request((problem,)) from error
