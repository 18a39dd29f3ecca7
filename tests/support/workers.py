"""Real workers on real stores, inside the test's own process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from ferryman import Registry
from ferryman.core.job import Job, Position
from ferryman.core.queues import QueueSettings
from ferryman.core.status import JobStatus
from ferryman.dispatch.connections import open_client
from ferryman.dispatch.dispatcher import RedisDispatcher, open_dispatcher
from ferryman.ledger.postgres import PostgresLedger, open_ledger
from ferryman.maintainer.maintainer import Maintainer
from ferryman.ports import Scope
from ferryman.telemetry.metrics import Metrics
from ferryman.wiring import SystemClock
from ferryman.worker.crew import Outside
from ferryman.worker.runtime import PipelineWorker, Settings, WorkerOptions
from tests.support.ledgers import USER, new_job
from tests.support.waiting import eventually

ACME = Scope(tenant_id="acme")
EVERYONE = Scope(tenant_id=None)


@dataclass
class Pipeline:
    """A ledger and a dispatcher that tests submit to and workers work on."""

    ledger: PostgresLedger
    dispatcher: RedisDispatcher
    database_url: str
    redis_url: str
    metrics: Metrics

    async def make_queue(self, name: str, **settings: Any) -> None:
        """A queue with these settings, warm in Redis."""
        record, _ = await self.ledger.queues.put(name, QueueSettings(**settings), USER)
        await self.warm(record.name)

    async def warm(self, name: str = "default") -> None:
        """Fill Redis from the ledger."""
        record = await self.ledger.queues.get(name)
        assert record is not None
        await self.dispatcher.configure(record)
        await self.dispatcher.rebuild(record, self._pages(name))

    async def _pages(self, name: str) -> AsyncIterator[Sequence[Position]]:
        after = None
        while page := await self.ledger.upkeep.waiting(name, after=after, limit=500):
            yield page
            after = page[-1].id

    async def submit(self, job_type: str, document: bytes = b"{}", **fields: Any) -> UUID:
        """Store a job and tell Redis."""
        inserted = await self.ledger.jobs.insert(new_job(type=job_type, input=document, **fields), USER)
        await self.dispatcher.push(await self.ledger.jobs.positions([inserted.id]))
        return inserted.id

    async def get(self, job_id: UUID) -> Job:
        job = await self.ledger.jobs.get(EVERYONE, job_id)
        assert job is not None
        return job

    async def reaches(self, job_id: UUID, status: JobStatus, within_s: float = 10.0) -> Job:
        """The job, once it has this status."""
        return await eventually(
            partial(self.get, job_id), lambda job: job.status is status, within_s=within_s
        )

    async def completed(self, job_id: UUID, within_s: float = 10.0) -> Job:
        return await self.reaches(job_id, JobStatus.COMPLETED, within_s)

    def outside(self) -> Outside:
        return Outside(
            ledger=self.ledger,
            dispatcher=self.dispatcher,
            open_ledger=partial(open_ledger, self.database_url, readers=1),
            open_dispatcher=partial(open_dispatcher, self.redis_url, connections=2),
            clock=SystemClock(),
            dice=random.random,
            metrics=self.metrics,
        )

    def worker(self, handlers: Registry | Settings, **options: Any) -> PipelineWorker:
        """A worker that is still to be started."""
        pool = open_client(self.redis_url, connections=4, timeout_s=2.0).connection_pool
        defaults: dict[str, Any] = {"handle_signals": False, "shutdown_grace_s": 5.0, "pod": "test"}
        return PipelineWorker(handlers, WorkerOptions(**(defaults | options)), self.outside(), pool)

    @asynccontextmanager
    async def working(self, handlers: Registry | Settings, **options: Any) -> AsyncIterator[PipelineWorker]:
        """A worker at work for the block."""
        worker = self.worker(handlers, **options)
        task = asyncio.create_task(worker.async_run())
        try:
            yield worker
        finally:
            worker.crew.drain.stop()
            try:
                await asyncio.wait_for(task, 10)
            finally:
                await worker.close()

    @asynccontextmanager
    async def maintained(self) -> AsyncIterator[None]:
        """A leading maintainer for the block."""
        stop = asyncio.Event()
        maintainer = Maintainer("test", self.ledger, self.dispatcher, SystemClock(), self.metrics)
        task = asyncio.create_task(maintainer.run(stop))
        try:
            yield
        finally:
            stop.set()
            await task


@asynccontextmanager
async def opened_pipeline(database_url: str, redis_url: str) -> AsyncIterator[Pipeline]:
    """A pipeline on these stores, its default queue warm."""
    metrics = Metrics()
    async with open_ledger(database_url) as ledger:
        dispatcher = open_dispatcher(redis_url)
        pipeline = Pipeline(ledger, dispatcher, database_url, redis_url, metrics)
        try:
            await pipeline.warm()
            yield pipeline
        finally:
            await dispatcher.close()
