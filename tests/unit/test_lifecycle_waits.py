"""Held requests: woken by one question for all, bounded, let go at the end."""

import asyncio
from uuid import UUID, uuid4

import pytest

from ferryman.core.status import JobStatus
from ferryman.lifecycle.failures import TooManyWaitsError
from ferryman.lifecycle.waits import MAX_PER_TENANT, Waits
from tests.support.api_shapes import job
from tests.support.fakes import FakeLedger

LONG_MS = 60_000


def held(waits: Waits, job_id: UUID) -> asyncio.Task[None]:
    return asyncio.create_task(waits.until_final(job(id=job_id), at_most_ms=LONG_MS))


async def settled() -> None:
    """Let every task that can run do so."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_everyone_is_woken_by_one_question() -> None:
    ledger = FakeLedger()
    waits = Waits(ledger.as_port(), look_seconds=LONG_MS)
    ended, running = uuid4(), uuid4()
    tasks = [held(waits, ended), held(waits, ended), held(waits, running)]
    await settled()
    ledger.final = {ended: JobStatus.COMPLETED, running: JobStatus.RUNNING}
    await waits.look()
    await asyncio.gather(*tasks[:2])
    assert ledger.asked == ["statuses 2"]
    assert not tasks[2].done()
    await waits.close()
    await tasks[2]


async def test_a_job_that_has_gone_wakes_its_waiters() -> None:
    waits = Waits(FakeLedger().as_port(), look_seconds=LONG_MS)
    task = held(waits, uuid4())
    await settled()
    await waits.look()
    await task
    await waits.close()


async def test_an_ended_job_and_no_time_hold_nobody() -> None:
    ledger = FakeLedger()
    waits = Waits(ledger.as_port())
    await waits.until_final(job(status=JobStatus.EXPIRED), at_most_ms=LONG_MS)
    await waits.until_final(job(), at_most_ms=0)
    assert ledger.asked == []


async def test_the_time_passes() -> None:
    waits = Waits(FakeLedger().as_port(), look_seconds=LONG_MS)
    await waits.until_final(job(), at_most_ms=1)
    await waits.close()


async def test_the_loop_looks_by_itself() -> None:
    ledger = FakeLedger()
    waits = Waits(ledger.as_port(), look_seconds=0.001)
    ended = uuid4()
    ledger.final = {ended: JobStatus.DEAD_LETTER}
    await asyncio.wait_for(held(waits, ended), 5)


async def test_a_tenant_holds_no_more_than_its_share() -> None:
    waits = Waits(FakeLedger().as_port(), look_seconds=LONG_MS)
    tasks = [held(waits, uuid4()) for _ in range(MAX_PER_TENANT)]
    await settled()
    with pytest.raises(TooManyWaitsError):
        await waits.until_final(job(), at_most_ms=LONG_MS)
    other = asyncio.create_task(waits.until_final(job(tenant_id="globex"), at_most_ms=LONG_MS))
    await settled()
    assert not other.done()
    await waits.close()
    await asyncio.gather(*tasks, other)
    await waits.until_final(job(), at_most_ms=LONG_MS)
