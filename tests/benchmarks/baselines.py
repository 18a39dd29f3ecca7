"""What REST over one table costs at least: a server whose handlers do one INSERT and nothing else.

`POST /one` commits by itself. `POST /group` shares an INSERT and its COMMIT with whoever came meanwhile.
No identity, no checks, no audit, no statistics, no queue: the floor that Ferryman is held against.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from typing import Any

import asyncpg
import uvloop
from aiohttp import web

CONNECTIONS = 10
TABLE = "CREATE TABLE IF NOT EXISTS plain (id uuid PRIMARY KEY, body jsonb NOT NULL)"
INSERT_ONE = "INSERT INTO plain (id, body) VALUES ($1, $2)"
INSERT_MANY = "INSERT INTO plain (id, body) SELECT * FROM unnest($1::uuid[], $2::jsonb[])"
DATABASE_VARIABLE = "FERRYMAN_BENCH_DATABASE_URL"


class Group:
    """Takes what is buffered, writes it in one statement, repeats."""

    def __init__(self) -> None:
        self._buffer: list[tuple[uuid.UUID, str, asyncio.Future[None]]] = []
        self._filled = asyncio.Event()

    async def insert(self, job_id: uuid.UUID, body: str) -> None:
        """Durable when it returns."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._buffer.append((job_id, body, stored))
        self._filled.set()
        await stored

    async def flush_forever(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Write what comes, over one held connection."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            batch, self._buffer = self._buffer, []
            await connection.execute(INSERT_MANY, [row[0] for row in batch], [row[1] for row in batch])
            for _, _, stored in batch:
                stored.set_result(None)


async def serve(port: int, database_url: str) -> None:
    """Serve until cancelled."""
    async with asyncpg.create_pool(database_url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        await pool.execute(TABLE)
        group = Group()

        async def one(request: web.Request) -> web.Response:
            job_id = uuid.uuid4()
            await pool.execute(INSERT_ONE, job_id, (await request.read()).decode())
            return _created(job_id)

        async def grouped(request: web.Request) -> web.Response:
            job_id = uuid.uuid4()
            await group.insert(job_id, (await request.read()).decode())
            return _created(job_id)

        app = web.Application()
        app.add_routes([web.post("/one", one), web.post("/group", grouped)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with pool.acquire() as connection:
            await group.flush_forever(connection)


def _created(job_id: uuid.UUID) -> web.Response:
    answer: dict[str, Any] = {"jobId": str(job_id), "status": "pending"}
    return web.json_response(answer, status=201)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), os.environ[DATABASE_VARIABLE]))
