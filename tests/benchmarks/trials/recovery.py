"""What a kill -9 of a worker and a FLUSHALL under load cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg

from tests.benchmarks.beacon import Lookout, Watch
from tests.benchmarks.bench import Bench
from tests.benchmarks.measured import Trial, Values
from tests.benchmarks.peers import arq_peer, pgqueuer_peer
from tests.support.stack import Process
from tests.support.waiting import eventually

KILL = "kill -9 of a worker"
FLUSH = "FLUSHALL under load"
FERRYMAN, ARQ, PGQUEUER = "Ferryman", "arq", "pgqueuer"
START_SECONDS = 30.0
OUR_PATIENCE, PEER_PATIENCE = 60.0, 400.0
FLUSH_CONNECTIONS = 8
FLUSH_SECONDS = 3.0
DRAIN_SECONDS = 60.0

Submit = Callable[[str, str], Awaitable[object]]

# Pauses between instants at which jobs started, from the flush on; one that began before it counts from it.
_PAUSE = """
    SELECT coalesce(max(extract(epoch FROM at - greatest(before, $1)) * 1000), 0)::float8
    FROM (SELECT started_at AS at, lag(started_at) OVER (ORDER BY started_at) AS before
          FROM ferryman.jobs WHERE started_at IS NOT NULL) AS starts
    WHERE at > $1
"""
_WAITED = """
    SELECT coalesce(max(extract(epoch FROM started_at - $1) * 1000), 0)::float8
    FROM ferryman.jobs WHERE created_at < $1 AND started_at > $1
"""
_COMPLETED = "SELECT coalesce(sum(jobs), 0)::bigint FROM ferryman.job_stats WHERE outcome = 'completed'"

_UNFINISHED = "SELECT count(*) FROM ferryman.jobs WHERE status IN ('pending', 'running')"


async def _until_again(
    watch: Watch,
    first: Process,
    start_spare: Callable[[], Process],
    submit: Submit,
    held: int,
    patience: float,
) -> Values:
    """Let one worker hold jobs, kill it beside a spare that is alive, and wait for all of them to start."""
    for number in range(held):
        await submit("hang", f"held{number}")
    for _ in range(held):
        await watch.next(START_SECONDS)
    await _until_it_works(watch, start_spare(), submit)
    first.kill()
    killed_ns = time.time_ns()
    waiting = {f"held{number}" for number in range(held)}
    last_ns = killed_ns
    while waiting:
        start = await watch.next(patience)
        waiting.discard(start.key)
        last_ns = max(last_ns, start.at_ns)
    return {"jobs": held, "seconds": (last_ns - killed_ns) / 1e9}


async def _until_it_works(watch: Watch, worker: Process, submit: Submit) -> None:
    """Submit jobs until this worker takes one: others may be alive and have room."""
    assert worker.handle is not None
    while True:
        await submit("flash", "probe")
        if (await watch.next(START_SECONDS)).pid == worker.handle.pid:
            return


async def _kill_ferryman(bench: Bench) -> Values:
    held = bench.sizes.held
    async with Lookout(bench.beacon) as watch, bench.api() as rest:
        first = bench.worker(held, **bench.beacon_variable)
        return await _until_again(
            watch,
            first,
            lambda: bench.worker(held + 1, **bench.beacon_variable),
            rest.submit,
            held,
            OUR_PATIENCE,
        )


async def _kill_arq(bench: Bench) -> Values:
    # Its default worker runs ten jobs at once, so ten keep the first one from taking the spare's job.
    async with Lookout(bench.beacon) as watch, await arq_peer.connect(bench.arq_url) as redis:
        first = bench.start("peers.arq_peer", "default", **bench.beacon_variable)

        def spare() -> Process:
            return bench.start("peers.arq_peer", "tuned", **bench.beacon_variable)

        return await _until_again(watch, first, spare, arq_peer.Enqueue(redis), 10, PEER_PATIENCE)


async def _kill_pgqueuer(bench: Bench) -> Values:
    assert bench.peer_database is not None
    async with (
        Lookout(bench.beacon) as watch,
        pgqueuer_peer.connected(bench.peer_database.service_url) as enqueue,
    ):
        first = bench.start("peers.pgqueuer_peer", **bench.beacon_variable)

        def spare() -> Process:
            return bench.start("peers.pgqueuer_peer", **bench.beacon_variable)

        return await _until_again(watch, first, spare, enqueue, bench.sizes.held, PEER_PATIENCE)


async def _flush(bench: Bench) -> Values:
    async with bench.api() as rest, _ledger(bench) as ledger:
        await rest.fill(bench.sizes.flushed)
        bench.worker()
        load = asyncio.create_task(rest.load(FLUSH_CONNECTIONS, warm_seconds=0.0, seconds=FLUSH_SECONDS))
        started = bench.sizes.flushed // 10
        await eventually(lambda: ledger.fetchval(_COMPLETED), lambda n: n > started, within_s=START_SECONDS)
        flushed_at = await ledger.fetchval("SELECT clock_timestamp()")
        await bench.flush_redis()
        acknowledged = bench.sizes.flushed + (await load)["jobs"]
        with suppress(AssertionError):  # what never ends is what was lost
            await eventually(
                lambda: ledger.fetchval(_UNFINISHED), lambda n: n == 0, within_s=DRAIN_SECONDS, every_s=0.2
            )
        unfinished, completed = await ledger.fetchval(_UNFINISHED), await ledger.fetchval(_COMPLETED)
        return {
            "jobs": acknowledged,
            "lost": max(0, unfinished, acknowledged - completed),
            "pause_ms": await ledger.fetchval(_PAUSE, flushed_at),
            "waited_ms": await ledger.fetchval(_WAITED, flushed_at),
        }


@asynccontextmanager
async def _ledger(bench: Bench) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await bench.ledger()
    try:
        yield connection
    finally:
        await connection.close()


TRIALS = (Trial(KILL, FERRYMAN, _kill_ferryman), Trial(FLUSH, FERRYMAN, _flush))
PEER_TRIALS = (
    Trial(KILL, PGQUEUER, _kill_pgqueuer, rounds=1),
    Trial(KILL, ARQ, _kill_arq, rounds=1),
)
