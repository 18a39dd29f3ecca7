"""Serving the application: a socket, time limits on slow clients, and a stop that lets answers finish."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from ferryman.api.connections import MAX_LINE_BYTES, Connection
from ferryman.api.limits import Limits

_BACKLOG: Final = 1_024
_LINGER_SECONDS: Final = 1.0


@asynccontextmanager
async def serving(
    app: web.Application, *, host: str, port: int, limits: Limits, grace_seconds: float
) -> AsyncIterator[int]:
    """Serve for the block; yields the port (another one than asked for when that was 0).

    At the end no connection is taken any more, and running requests have `grace_seconds`.
    """
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=grace_seconds)
    await runner.setup()
    try:
        listener = await _listen(runner, host, port, limits)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, limits: Limits) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None, "the runner was set up"
    options: dict[str, Any] = {
        "access_log": None,
        "keepalive_timeout": limits.keepalive_seconds,
        "lingering_time": _LINGER_SECONDS,
        "max_line_size": MAX_LINE_BYTES,
        "max_field_size": MAX_LINE_BYTES,
        "auto_decompress": False,
    }

    def connection() -> asyncio.Protocol:
        handler = Connection(server, loop=loop, **options)
        loop.call_later(limits.header_seconds, _close_if_silent, handler)
        return handler

    listener = await loop.create_server(connection, host, port, backlog=_BACKLOG, reuse_address=True)
    for listening in listener.sockets:
        _bound_unread_answers(listening, limits.write_seconds)
    return listener


def _bound_unread_answers(listening: socket.socket, seconds: float) -> None:
    """Let the kernel drop a client that does not take what was sent; accepted connections inherit it."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and listening.family in (socket.AF_INET, socket.AF_INET6):
        listening.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1_000))


def _close_if_silent(connection: web.RequestHandler) -> None:
    """aiohttp gives a first request the whole keep-alive time to come; this is the shorter one."""
    if connection._request_count == 0:
        connection.force_close()
