"""The HTTP face of the meter: two resources, both read-only."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import web

from popctl.meter.hub import Hub
from popctl.wire.meter_api import encode_measured

HUB: Final = web.AppKey("hub", Hub)
MAX_STREAMS: Final = 16
_WRITE_WITHIN_S: Final = 5.0
"""A peer that takes nothing for so long is gone or stuck."""


def build(hub: Hub) -> web.Application:
    """Return the application."""
    app = web.Application(client_max_size=1024)
    app[HUB] = hub
    app.add_routes([web.get("/v1/meter", _meter), web.get("/v1/stream", _stream)])
    return app


async def _meter(request: web.Request) -> web.Response:
    latest = request.app[HUB].latest()
    if latest is None:
        raise web.HTTPServiceUnavailable(text="nothing was measured yet\n", headers={"Retry-After": "1"})
    return web.Response(body=encode_measured(latest), content_type="application/json")


async def _stream(request: web.Request) -> web.StreamResponse:
    hub = request.app[HUB]
    if hub.listeners >= MAX_STREAMS:
        raise web.HTTPServiceUnavailable(text="too many streams\n", headers={"Retry-After": "5"})
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
    listener = hub.join()
    try:
        await response.prepare(request)
        # TimeoutError and the connection's own errors mean the same here: nobody listens any more.
        with suppress(OSError):
            while (line := await listener.next()) is not None:
                async with asyncio.timeout(_WRITE_WITHIN_S):
                    await response.write(line)
    finally:
        hub.leave(listener)
    return response
