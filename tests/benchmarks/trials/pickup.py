"""How long an idle pipeline takes from the submission's first byte to the first line of the handler."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from tests.benchmarks.beacon import Lookout
from tests.benchmarks.bench import Bench
from tests.benchmarks.http_load import Plan
from tests.benchmarks.latencies import percentiles
from tests.benchmarks.measured import Trial, Values
from tests.benchmarks.payload import compact
from tests.benchmarks.peers import arq_peer, pgqueuer_peer
from tests.benchmarks.rest import Rest, body
from tests.benchmarks.sizes import CONCURRENCY

IDLE = "pickup, idle"
FERRYMAN, ARQ, ARQ_TUNED, PGQUEUER = "Ferryman", "arq", "arq tuned", "pgqueuer"
GAP_SECONDS = (0.005, 0.045)
START_SECONDS = 30.0
WARM_UP = 5

Submit = Callable[[str], Awaitable[None]]


class _Posting:
    """One kept connection; a request is written before anything is waited for."""

    def __init__(self, rest: Rest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._plan = Plan(port=rest.port, path="/api/jobs", token=rest.token(), body="", connections=1)

    async def __call__(self, key: str) -> None:
        self._writer.write(replace(self._plan, body=compact(body("flash", key)).decode()).request())
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201"), head
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        await self._reader.readexactly(length)


@asynccontextmanager
async def _ferryman(bench: Bench) -> AsyncIterator[Submit]:
    async with bench.api() as rest:
        bench.worker(CONCURRENCY, **bench.beacon_variable)
        reader, writer = await asyncio.open_connection("127.0.0.1", rest.port)
        yield _Posting(rest, reader, writer)
        writer.close()


@asynccontextmanager
async def _pgqueuer(bench: Bench) -> AsyncIterator[Submit]:
    bench.start("peers.pgqueuer_peer", **bench.beacon_variable)
    assert bench.peer_database is not None
    async with pgqueuer_peer.connected(bench.peer_database.service_url) as enqueue:
        yield lambda key: enqueue("flash", key)


def _arq(form: str) -> Callable[[Bench], AbstractAsyncContextManager[Submit]]:
    @asynccontextmanager
    async def connected(bench: Bench) -> AsyncIterator[Submit]:
        bench.start("peers.arq_peer", form, **bench.beacon_variable)
        async with await arq_peer.connect(bench.arq_url) as redis:
            enqueue = arq_peer.Enqueue(redis)
            yield lambda key: enqueue("flash", key)

    return connected


def _pickups(
    connected: Callable[[Bench], AbstractAsyncContextManager[Submit]], count: Callable[[Bench], int]
) -> Callable[[Bench], Awaitable[Values]]:
    async def run(bench: Bench) -> Values:
        dice = random.Random(7)
        waits_ms: list[float] = []
        async with Lookout(bench.beacon) as watch, connected(bench) as submit:
            for number in range(WARM_UP + count(bench)):
                key = f"job{number}"
                began = time.time_ns()
                submitting = asyncio.ensure_future(submit(key))
                start = await watch.next(START_SECONDS)
                await submitting
                assert start.key == key, f"{start.key} started instead of {key}"
                if number >= WARM_UP:
                    waits_ms.append((start.at_ns - began) / 1e6)
                await asyncio.sleep(dice.uniform(*GAP_SECONDS))
        return {"jobs": len(waits_ms), **percentiles(waits_ms)}

    return run


def _few(bench: Bench) -> int:
    return bench.sizes.pickups_arq_default


def _many(bench: Bench) -> int:
    return bench.sizes.pickups


TRIALS = (
    Trial(IDLE, FERRYMAN, _pickups(_ferryman, _many)),
    Trial(IDLE, PGQUEUER, _pickups(_pgqueuer, _many)),
    Trial(IDLE, ARQ_TUNED, _pickups(_arq("tuned"), _many)),
    Trial(IDLE, ARQ, _pickups(_arq("default"), _few)),
)
