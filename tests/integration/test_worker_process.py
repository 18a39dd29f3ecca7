"""`ferryman worker` as a process: signals, exit codes, and a death that somebody else heals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from ferryman.core.job import Job
from ferryman.core.status import JobStatus
from tests.support.ledgers import assert_books, value
from tests.support.servers import Database
from tests.support.stack import REPOSITORY, Process
from tests.support.waiting import eventually
from tests.support.workers import Pipeline, opened_pipeline

Start = Callable[..., Process]


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


@pytest.fixture
def start(ledger_database: Database, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    processes: list[Process] = []
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FERRYMAN_")}

    def start_one(**extra: str) -> Process:
        environment = inherited | {
            "FERRYMAN_DATABASE_URL": ledger_database.service_url,
            "FERRYMAN_REDIS_URL": redis_url,
            "FERRYMAN_LOG_FORMAT": "json",
            "PYTHONPATH": str(REPOSITORY),
        }
        command = ["worker", "--handlers", "tests.support.worker_handlers", "--concurrency", "4"]
        process = Process("worker", command, environment, tmp_path / f"worker-{len(processes)}.log")
        process.start(**extra)
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()


async def asleep(pipeline: Pipeline, ms: int, **fields: object) -> UUID:
    """A job whose handler has begun to sleep."""
    job_id = await pipeline.submit("sleep", b'{"ms":%d}' % ms, **fields)

    async def look() -> Job:
        return await pipeline.get(job_id)

    await eventually(look, lambda job: job.progress_note == "asleep", within_s=20)
    return job_id


async def test_a_terminated_worker_lets_its_jobs_end(
    pipeline: Pipeline, start: Start, ledger_database: Database
) -> None:
    worker = start()
    job_id = await asleep(pipeline, 1_000)
    worker.send(signal.SIGTERM)
    assert await worker.ended(within_s=10) == 0
    assert (await pipeline.get(job_id)).status is JobStatus.COMPLETED
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.workers") == 0
    await assert_books(ledger_database.owner_url)


async def test_what_outlasts_the_grace_goes_back_uncounted(pipeline: Pipeline, start: Start) -> None:
    worker = start(FERRYMAN_SHUTDOWN_GRACE_SECONDS="1")
    job_id = await asleep(pipeline, 60_000)
    worker.send(signal.SIGTERM)
    assert await worker.ended(within_s=10) == 0
    job = await pipeline.get(job_id)
    assert (job.status, job.retry_count, job.crashes) == (JobStatus.PENDING, 0, 0)


async def test_a_second_signal_does_not_wait(pipeline: Pipeline, start: Start) -> None:
    worker = start(FERRYMAN_SHUTDOWN_GRACE_SECONDS="60")
    job_id = await asleep(pipeline, 60_000)
    worker.send(signal.SIGTERM)
    worker.send(signal.SIGINT)
    assert await worker.ended(within_s=10) == 0
    assert (await pipeline.get(job_id)).status is JobStatus.PENDING


async def test_zombies_make_the_worker_leave_for_a_restart(pipeline: Pipeline, start: Start) -> None:
    worker = start()
    ids = [await pipeline.submit("stubborn", timeout_ms=100, retry_delay_ms=60_000) for _ in range(3)]
    assert await worker.ended(within_s=30) == 1
    for job_id in ids:
        job = await pipeline.get(job_id)
        assert (job.error_class, job.retry_count, job.crashes) == ("TIMEOUT", 1, 0)


async def test_a_killed_workers_job_runs_again_elsewhere(
    pipeline: Pipeline, start: Start, ledger_database: Database
) -> None:
    await pipeline.make_queue("default", visibility_timeout_ms=1_000)
    worker = start()
    job_id = await asleep(pipeline, 3_000, visibility_timeout_ms=1_000)
    worker.kill()
    start()
    job = await pipeline.completed(job_id, within_s=20)
    assert (job.attempt, job.crashes, job.retry_count) == (2, 1, 0)
    await assert_books(ledger_database.owner_url)


def test_importing_ferryman_costs_nothing() -> None:
    import subprocess

    code = "import sys, ferryman; print(any(name in sys.modules for name in ('arq', 'msgspec', 'asyncio')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
