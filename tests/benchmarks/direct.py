"""Ferryman without HTTP: the same submission that the API does, and claims, in the caller's own process."""

from __future__ import annotations

import os
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID, uuid4

from ferryman.auth.principal import Principal, Role
from ferryman.core.ids import uuid7
from ferryman.core.job import Claimed, Inserted, Settlement
from ferryman.core.verdict import Complete
from ferryman.dispatch.dispatcher import open_dispatcher
from ferryman.ledger.postgres import open_ledger
from ferryman.lifecycle.admission import Admission
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.orders import Order
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.lifecycle.submission import Submission
from ferryman.ports import Dispatcher, Ended, Ledger
from ferryman.telemetry.metrics import Metrics
from ferryman.wiring import SystemClock
from tests.benchmarks.payload import compact, document
from tests.benchmarks.sizes import QUEUE

CONNECTIONS = 4
LEASE_MS = 30_000
WORKER = "bench"


class Stores(NamedTuple):
    """Open ledger and dispatcher."""

    ledger: Ledger
    dispatcher: Dispatcher


def addresses(environment: Mapping[str, str]) -> tuple[str, str]:
    """Of database and Redis."""
    return environment["FERRYMAN_DATABASE_URL"], environment["FERRYMAN_REDIS_URL"]


@asynccontextmanager
async def opened(database_url: str, redis_url: str) -> AsyncIterator[Stores]:
    """Both for the time of the block."""
    dispatcher = open_dispatcher(redis_url)
    try:
        async with open_ledger(database_url, connections=CONNECTIONS) as ledger:
            yield Stores(ledger, dispatcher)
    finally:
        await dispatcher.close()


class Submit:
    """`await submit()` for one job; `await submit.many(n)` for n in one call."""

    def __init__(self, stores: Stores, tenant: str = "acme") -> None:
        clock, metrics = SystemClock(), Metrics()
        link = DispatcherLink(stores.dispatcher, metrics, clock)
        admission = Admission(stores.ledger, link, clock, random.random)
        directory = QueueDirectory(stores.ledger, clock)
        self._submission = Submission(stores.ledger, directory, admission, link, metrics, clock)
        principal = Principal(subject="1", tenant_id=tenant, user_id=1, roles=frozenset({Role.USER}))
        self._asker = Asker(principal=principal, correlation_id="bench")
        self._order = Order(
            type="noop", queue=QUEUE, priority=0, input=compact(document()), metadata=b"{}", tags=[]
        )

    async def __call__(self) -> None:
        await self._submission.submit(self._asker, self._order, _new_id())

    async def many(self, count: int) -> list[Inserted]:
        return await self._submission.submit_all(
            self._asker, [self._order] * count, [_new_id() for _ in range(count)]
        )


def _new_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


class Claims:
    """A worker's cycle without its handlers."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def claim(self, slots: int) -> list[Claimed]:
        """What a worker with so many free slots gets: Redis suggests, the ledger decides."""
        tokens = [uuid4() for _ in range(slots)]
        step = await self._stores.dispatcher.step(QUEUE, ended=[], tokens=tokens, lease_ms=LEASE_MS)
        return await self._stores.ledger.attempts.claim(WORKER, step.claimed, queue=QUEUE, types=["noop"])

    async def complete(self, claimed: list[Claimed]) -> None:
        """End these attempts well and free their slots."""
        await self._stores.ledger.attempts.settle(WORKER, [_settlement(job) for job in claimed])
        ended = [Ended(job.id, 1, job.token) for job in claimed]
        no_tokens: list[UUID] = []
        await self._stores.dispatcher.step(QUEUE, ended=ended, tokens=no_tokens, lease_ms=LEASE_MS)


def _settlement(job: Claimed) -> Settlement:
    return Settlement(
        id=job.id,
        token=job.token,
        attempt=job.attempt,
        verdict=Complete(b"{}"),
        run_ms=1,
        wait_ms=job.wait_ms,
        max_retries=job.max_retries,
    )
