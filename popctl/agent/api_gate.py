"""What stands before every operation of the API: who asks, how often, in which role; and what becomes of refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import structlog
from aiohttp import web

from popctl.agent import api_problems
from popctl.agent.api_peer import Caller, Door, RateLimit
from popctl.agent.api_problems import RefusedError
from popctl.agent.audit_log import SHOWN_ORDERS, AuditLog
from popctl.listen.protocol import problem_response
from popctl.model.instant import Instant
from popctl.model.listen import Role
from popctl.wire.agent_api import FieldProblem, Problem
from popctl.wire.agent_order import Order, OrderError, decode_end, decode_order, reason_problem, show
from popctl.wire.errors import WireError

_LOG = structlog.get_logger("popctl.api")

MAX_BODY_BYTES: Final = 64 * 1024
MAX_REQUESTS_AT_ONCE: Final = 32
BODY_WITHIN_S: Final = 2.0
QUESTIONS: Final = frozenset(("GET", "HEAD"))
"""Methods that change nothing; all others are orders."""

_CALLER: Final = web.RequestKey("caller", Caller)
_ASKED: Final[web.RequestKey[Mapping[str, Any]]] = web.RequestKey("asked", Mapping)
_WHY: Final = web.RequestKey("why", str)
_SHOWN_CHARACTERS: Final = 500
_TRESPASSES: Final = frozenset(("no-role", "wrong-role"))
"""Written to the audit file even when somebody only asked."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Gate:
    """The gate of one listener: what comes through one takes nothing from the others."""

    def __init__(
        self,
        *,
        door: Door,
        pop_name: str,
        audit: AuditLog,
        standing: Callable[[], list[str]],
        known_query: Callable[[web.Request], frozenset[str] | None],
        clock: Callable[[], Instant],
    ) -> None:
        """`standing` tells the orders in force, `known_query` the parameters of a request (None: any)."""
        self._door = door
        self._pop_name = pop_name
        self._audit = audit
        self._standing = standing
        self._known_query = known_query
        self._question_rate = RateLimit(clock)
        self._order_rate = RateLimit(clock)
        self._running = 0

    def application(self) -> web.Application:
        """Return an application that nobody gets into but through this gate."""
        return web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[self._answer_for, self._bounded])

    @web.middleware
    async def _answer_for(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Turn every way to fail into one shape of answer. The one place that catches a bug of a handler."""
        request[_CALLER] = self._door.caller(request.transport)
        allow = None
        try:
            return await handler(request)
        except RefusedError as error:
            found = error.problem
        except web.HTTPException as error:
            if error.status < api_problems.BAD_REQUEST:
                raise
            found, allow = _of_framework(error), error.headers.get("Allow")
        except Exception:  # noqa: BLE001 - a bug in an answer is logged and must not end the agent
            _LOG.exception("request failed", method=request.method, path=request.path[:200])
            found = api_problems.problem("bug")
        await self._note(request, found)
        return problem_response(found, {"Allow": allow} if allow else None)

    @web.middleware
    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = caller_of(request)
        # Counted apart: a monitor that asks without end, as root as most things are, must not lock the operator out.
        rate = self._question_rate if request.method in QUESTIONS else self._order_rate
        if not rate.admit(caller.key):
            raise api_problems.too_many(rate.rate_per_s)
        self._admit(request, caller)
        if self._running >= MAX_REQUESTS_AT_ONCE:
            raise api_problems.busy(f"{self._running} requests are being answered")
        self._running += 1
        try:
            return await handler(request)
        finally:
            self._running -= 1

    def _admit(self, request: web.Request, caller: Caller) -> None:
        if caller.role is None:
            raise api_problems.no_role(caller.names)
        if request.method not in QUESTIONS:
            if caller.role is not Role.OPERATE:
                raise api_problems.wrong_role(caller.key, caller.role, Role.OPERATE)
            if "Origin" in request.headers:
                raise api_problems.cross_site()
        known = self._known_query(request)
        problems = tuple(
            FieldProblem(
                key=f"?{show(key)}",
                found="an unknown parameter",
                problem="not part of this request",
                remedy=f"use {', '.join(sorted(known))}",
            )
            for key in dict.fromkeys(request.query)
            if known is not None and key not in known
        )
        if problems:
            raise api_problems.bad_request(problems[:20])
        for pop in request.query.getall("pop", []):
            if pop != self._pop_name:
                raise api_problems.unknown_pop(pop[:100], self._pop_name)

    async def _note(self, request: web.Request, problem: Problem) -> None:
        """Write a refused order to the audit file: bounded, and nothing of a body that could not be read."""
        if request.method in QUESTIONS and problem.code not in _TRESPASSES:
            return
        caller = caller_of(request)
        if problem.code in (*_TRESPASSES, "unknown-pop"):
            await _look_at_what_is_refused(request)
        standing = self._standing()
        texts = [f"{one.key}: {one.problem}" for one in problem.problems] or [problem.detail]
        details = {
            "request": f"{request.method[:20]} {show(request.path)}",
            "asked": request.get(_ASKED),
            "status": problem.status,
            "code": problem.code,
            "refusal": "; ".join(texts)[:_SHOWN_CHARACTERS],
            "before": standing[:SHOWN_ORDERS],
            "orders": len(standing),
        }
        await self._audit.refusal(caller.key, await caller.name(), request.get(_WHY) or _why(request), details)


def caller_of(request: web.Request) -> Caller:
    """Return who asks."""
    return request[_CALLER]


async def read_order(request: web.Request) -> Order:
    """Return the order in the body.

    Raises:
        RefusedError: it is none, or does not arrive in time.
    """
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await request.read()
    except TimeoutError as error:
        problem = FieldProblem(
            key="(body)", found="no end", problem=f"not complete within {BODY_WITHIN_S:.0f} s", remedy="send it at once"
        )
        raise api_problems.bad_request((problem,)) from error
    request[_ASKED] = {"bytes": len(body)}
    try:
        order = decode_order(body)
    except OrderError as error:
        raise api_problems.bad_request(error.problems) from error
    request[_ASKED] = {**_plain(order), "bytes": len(body)}
    request[_WHY] = order.reason
    return order


def reason_of(request: web.Request) -> str:
    """Return the reason in the query. Raises `RefusedError`."""
    reasons = request.query.getall("reason", [])
    problem = reason_problem(reasons[0] if len(reasons) == 1 else reasons or None, key="?reason")
    if problem is not None:
        raise api_problems.bad_request((problem,))
    return reasons[0].strip()


def end_of(request: web.Request) -> float | None:
    """Return the end in the query, in seconds from now; None is without end. Raises `RefusedError`."""
    try:
        return decode_end(request.query.getall("expires_s", []))
    except OrderError as error:
        raise api_problems.bad_request(error.problems) from error


def _why(request: web.Request) -> str | None:
    found = request.query.getall("reason", [None])[0]
    return None if reason_problem(found) else found


async def _look_at_what_is_refused(request: web.Request) -> None:
    """Read the order of a caller that may not give it, to write down what was tried."""
    if request.can_read_body:
        try:
            await read_order(request)
        except (RefusedError, WireError, web.HTTPException):
            return


def _plain(order: Order) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(order).items() if name != "reason"}


def _of_framework(error: web.HTTPException) -> Problem:
    if error.status == api_problems.TOO_LARGE:
        return api_problems.problem("too-large", f"a body of at most {MAX_BODY_BYTES} bytes is read")
    code = error.reason.lower().replace(" ", "-")
    if code in api_problems.KINDS:
        return api_problems.problem(code)
    return Problem(status=error.status, code=code, title=error.reason)
