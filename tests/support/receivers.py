"""A receiver of webhooks on loopback, which answers as it is told and keeps what came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from ferryman.webhooks import verify
from tests.support.ledgers import connected
from tests.support.waiting import eventually


@dataclass
class Receiver:
    """`answers` are the statuses of the next requests, then 204; `secrets` what signatures are checked by."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The bodies that came, in order."""
        return [msgspec.json.decode(body) for _, body in self.requests]

    def verified(self, *secrets: str) -> list[str]:
        """The ids of all that came. Raises SignatureError unless each is signed with one of the secrets."""
        return [verify(secrets, headers, body) for headers, body in self.requests]

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.read()))
        status = self.answers.pop(0) if self.answers else 204
        headers = {"Location": self.url} if 300 <= status < 400 else None
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver for the block."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def at_rest(url: str) -> None:
    """Return once every transaction of the server that had begun is over: until then the relay holds back
    what came after it, and autovacuum begins some at any time.
    """
    async with connected(url) as connection:
        begun = await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")

        async def over() -> bool:
            reached: bool = await connection.fetchval(
                "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8", begun
            )
            return reached

        await eventually(over)
