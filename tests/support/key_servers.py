"""A server of key sets on loopback that answers as badly as a test wants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def saying(body: bytes, **headers: str) -> Handler:
    """Answers with this body."""

    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body, headers=headers or {"Content-Type": "application/json"})

    return handle


@dataclass
class KeyServer:
    """Answers every path by `handle`, and remembers what was asked for."""

    url: str = ""
    handle: Handler = field(default_factory=lambda: saying(b"{}"))
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.headers.append(dict(request.headers))
        return await self.handle(request)


@asynccontextmanager
async def key_server() -> AsyncIterator[KeyServer]:
    """A running one."""
    server = KeyServer()
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)  # type: ignore[arg-type]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
