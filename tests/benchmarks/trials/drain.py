"""How fast workers empty a queue of no-op jobs.

The jobs wait before the workers start, and the time counts from the first completion to the last, by what
each system itself keeps of it: the ledger's `completed_at`, pgqueuer's log, arq's results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import asyncpg

from tests.benchmarks.bench import Bench
from tests.benchmarks.measured import Trial, Values
from tests.benchmarks.peers import arq_peer
from tests.support.stack import Process
from tests.support.waiting import eventually

ONE, TWO = "drain, one worker", "drain, two workers"
FERRYMAN, ARQ, ARQ_TUNED, PGQUEUER = "Ferryman", "arq", "arq tuned", "pgqueuer"
GIVE_UP_SECONDS = 120.0
LOOK_SECONDS = 0.2

_OURS_LEFT = """
    SELECT $1 - coalesce(sum(jobs), 0) FROM ferryman.job_stats WHERE outcome = 'completed'
"""
_OURS_ENDS = "SELECT extract(epoch FROM completed_at)::float8 FROM ferryman.jobs WHERE status = 'completed'"
_PGQUEUER_LEFT = "SELECT EXISTS (SELECT FROM pgqueuer)::int"
_PGQUEUER_ENDS = "SELECT extract(epoch FROM created)::float8 FROM pgqueuer_log WHERE status = 'successful'"


def rate(ends: Sequence[float], jobs: int) -> Values:
    """Completions a second after the first instant at which some were complete."""
    assert len(ends) == jobs, f"{len(ends)} completions of {jobs} jobs"
    first, last = min(ends), max(ends)
    assert last > first, "all completions bear one instant: too few jobs"
    return {"jobs": jobs, "per_second": (jobs - Counter(ends)[first]) / (last - first)}


async def _ferryman(workers: int, bench: Bench) -> Values:
    jobs = bench.sizes.drain
    async with bench.api() as rest:
        await rest.fill(jobs)
        processes = [bench.worker() for _ in range(workers)]
        ledger = await bench.ledger()
        try:
            await _until_none(processes, lambda: ledger.fetchval(_OURS_LEFT, jobs))
            return rate([row[0] for row in await ledger.fetch(_OURS_ENDS)], jobs)
        finally:
            await ledger.close()


async def _pgqueuer(workers: int, bench: Bench) -> Values:
    jobs = bench.sizes.drain
    await bench.call(subject="pgqueuer", callers=1, bulk=min(1000, jobs), calls=max(1, jobs // 1000))
    processes = [bench.start("peers.pgqueuer_peer") for _ in range(workers)]
    assert bench.peer_database is not None
    connection = await asyncpg.connect(bench.peer_database.owner_url)
    try:
        await _until_none(processes, lambda: connection.fetchval(_PGQUEUER_LEFT))
        return rate([row[0] for row in await connection.fetch(_PGQUEUER_ENDS)], jobs)
    finally:
        await connection.close()


async def _arq(form: str, bench: Bench) -> Values:
    jobs = bench.sizes.drain_arq if form == "tuned" else bench.sizes.drain_arq_default
    await bench.call(subject="arq", callers=50, calls=jobs)
    processes = [bench.start("peers.arq_peer", form)]
    async with await arq_peer.connect(bench.arq_url) as redis:
        await _until_none(processes, lambda: arq_peer.waiting(redis))
        return rate(await arq_peer.finished_at(redis), jobs)


async def _until_none(processes: Sequence[Process], left: Callable[[], Awaitable[int]]) -> None:
    async def look() -> int:
        for process in processes:
            assert process.alive, f"{process.name} ended: {process.log.read_text()[-2000:]}"
        return await left()

    await eventually(look, lambda jobs: jobs <= 0, within_s=GIVE_UP_SECONDS, every_s=LOOK_SECONDS)


TRIALS = (
    Trial(ONE, FERRYMAN, partial(_ferryman, 1)),
    Trial(ONE, PGQUEUER, partial(_pgqueuer, 1)),
    Trial(ONE, ARQ_TUNED, partial(_arq, "tuned")),
    Trial(ONE, ARQ, partial(_arq, "default")),
    Trial(TWO, FERRYMAN, partial(_ferryman, 2)),
    Trial(TWO, PGQUEUER, partial(_pgqueuer, 2)),
)
