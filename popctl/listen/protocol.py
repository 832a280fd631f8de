"""One connection: aiohttp's, but that every refusal has one shape and idling is bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web

from popctl.wire.agent_api import Problem, encode

IDLE_S: Final = 15.0
"""Between two requests, and until the first one is complete."""
MAX_HEADER_BYTES: Final = 8190
MAX_HEADERS: Final = 64
PROBLEM_TYPE: Final = "application/problem+json"
"""RFC 9457."""
_QUIET: Final = logging.getLogger("popctl.http")
"""What aiohttp says of requests that are no HTTP. The sender is told; a log that anybody can fill helps nobody."""
_QUIET.setLevel(logging.CRITICAL)


class Speaking(web.RequestHandler):
    """Speaks HTTP with one client."""

    __slots__ = ("_when_lost",)

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, when_lost: Callable[[], None]) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=_QUIET,
            logger=_QUIET,
            keepalive_timeout=IDLE_S,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            # A compressed body could unfold to any size.
            auto_decompress=False,
        )
        self._when_lost = when_lost

    def connection_lost(self, exc: BaseException | None) -> None:
        """Take note that the client is gone."""
        super().connection_lost(exc)
        self._when_lost()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or what a handler failed at."""
        # The library decides first: it raises when an answer is on its way already.
        super().handle_error(request, status, exc, message)
        code = "not-http" if status == HTTPStatus.BAD_REQUEST else HTTPStatus(status).name.lower().replace("_", "-")
        return problem_response(Problem(status=status, code=code, title=HTTPStatus(status).phrase))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; what the library itself refuses, such as an `Expect`, gets the shape of a problem."""
        if isinstance(resp, web.HTTPException) and resp.status >= HTTPStatus.BAD_REQUEST:
            title = resp.reason
            resp = problem_response(
                Problem(status=resp.status, code=title.lower().replace(" ", "-"), title=title),
                {name: value for name in ("Allow", "Retry-After") if (value := resp.headers.get(name))},
            )
        return await super().finish_response(request, resp, start_time)


def problem_response(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    """Return a refusal. It ends the connection: a body that was refused unread would be taken for the next request."""
    response = web.Response(body=encode(problem), status=problem.status, content_type=PROBLEM_TYPE, headers=headers)
    response.force_close()
    return response
