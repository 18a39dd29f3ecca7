"""Readers of events: WebSockets and server-sent events, frame by frame."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType

from tests.support.api import Api

PROTOCOL = "ferryman.events.v1"


class Reader:
    """One WebSocket. What was read stays in `frames`."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    async def next(self, event: str | None = None, *, within_s: float = 10) -> dict[str, Any]:
        """The next frame, of this kind if one is named."""
        async with asyncio.timeout(within_s):
            while True:
                message = await self.socket.receive()
                assert message.type is WSMsgType.TEXT, (message.type, self.socket.close_code)
                frame: dict[str, Any] = json.loads(message.data)
                self.frames.append(frame)
                if event is None or frame["event"] == event:
                    return frame

    async def jobs(self, count: int, *, within_s: float = 20) -> list[dict[str, Any]]:
        """The next frames of jobs."""
        return [await self.next("job.changed", within_s=within_s) for _ in range(count)]

    async def closed(self, *, within_s: float = 10) -> int | None:
        """Read to the end; the close code."""
        async with asyncio.timeout(within_s):
            async for message in self.socket:
                self.frames.append(json.loads(message.data))
        return self.socket.close_code


@asynccontextmanager
async def reading(
    api: Api,
    query: str = "",
    *,
    bearer: str | None = None,
    headers: dict[str, str] | None = None,
    session: ClientSession | None = None,
) -> AsyncIterator[Reader]:
    """A WebSocket that is live, over the API's session unless another is given."""
    sent = {"Authorization": f"Bearer {bearer or api.bearer}", **(headers or {})}
    async with (session or api.session).ws_connect(
        f"/api/events{query}", headers=sent, timeout=ClientWSTimeout(ws_close=2)
    ) as socket:
        reader = Reader(socket)
        await reader.next()
        assert reader.frames[0]["event"] in ("ready", "gap", "job.changed"), reader.frames
        yield reader


async def server_sent(api: Api, query: str = "", **headers: str) -> AsyncIterator[dict[str, str]]:
    """The fields of each event, comments as `comment`."""
    sent = {"Authorization": f"Bearer {api.bearer}", "Accept": "text/event-stream", **headers}
    async with api.session.get(f"/api/events{query}", headers=sent) as answer:
        assert answer.status == 200, await answer.text()
        fields: dict[str, str] = {}
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(":")
                fields[name or "comment"] = value.strip()
            elif fields:
                yield fields
                fields = {}
