"""The log of events: complete, in order, and nothing comes in before what was read."""

import asyncio
import random
from typing import Any
from uuid import UUID

import pytest

from ferryman.core.events import Mark
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.events import Events
from ferryman.ledger.pool import Pools
from ferryman.ledger.postgres import PostgresLedger
from tests.support.ledgers import USER, claim, connected, new_job, settlement
from tests.support.servers import Database

WRITE = (
    "INSERT INTO ferryman.job_audit (tenant_id, actor_kind, actor_id, action, job_id)"
    " VALUES ($1, 'user', '1', 'submitted', $2) RETURNING id"
)


@pytest.fixture
def events(pools: Pools) -> Events:
    return Events(pools)


async def now(events: Events) -> Mark:
    batch = await events.read([], after=None, limit=1)
    assert (batch.events, batch.is_whole) == ([], True)
    return batch.upto


async def read_on(events: Events, mark: Mark, *tenants: str) -> tuple[list[UUID], Mark]:
    """The ids of all that is there behind the mark, in pages of three."""
    found: list[UUID] = []
    while True:
        batch = await events.read(tenants or ["acme"], after=mark, limit=3)
        assert batch.upto >= mark
        found += [event.mark.id for event in batch.events]
        mark = batch.upto
        if batch.is_whole:
            return found, mark


async def test_what_a_job_lived_through_comes_in_its_order(events: Events, pools: Pools) -> None:
    ledger = PostgresLedger(pools)
    mark = await now(events)
    job = new_job()
    await ledger.jobs.insert(job, USER)
    (claimed,) = await claim(Attempts(pools), job.id)
    await ledger.attempts.settle("w1", [settlement(claimed)])
    batch = await events.read(["acme", "globex"], after=mark, limit=10)
    seen = [(one.action, one.from_status, one.to_status, one.attempt) for one in batch.events]
    assert seen == [
        ("submitted", None, "pending", 0),
        ("claimed", "pending", "running", 1),
        ("completed", "running", "completed", 1),
    ]
    assert {one.job_id for one in batch.events} == {job.id}
    assert (await events.read(["globex"], after=mark, limit=10)).events == []
    summary = (await events.summaries("acme", [job.id]))[job.id]
    assert (summary.status, summary.output) == ("completed", None)
    assert await events.summaries("globex", [job.id]) == {}


async def test_a_late_commit_is_not_skipped(events: Events, ledger_database: Database) -> None:
    url = ledger_database.owner_url
    mark = await now(events)
    async with connected(url) as late, connected(url) as early:
        transaction = late.transaction()
        await transaction.start()
        first = await late.fetchval(WRITE, "acme", UUID(int=1))
        second = await early.fetchval(WRITE, "acme", UUID(int=2))
        found, mark = await read_on(events, mark)
        assert found == []  # the transaction that is still open comes first
        await transaction.commit()
        found, mark = await read_on(events, mark)
        assert found == [first, second]
        assert (await read_on(events, mark))[0] == []


async def test_under_writers_that_overlap_nothing_is_missed_and_nothing_comes_twice(
    events: Events, ledger_database: Database
) -> None:
    start = mark = await now(events)
    dice = random.Random(7)
    written: list[UUID] = []

    async def write(connection: Any) -> None:
        for _ in range(40):
            async with connection.transaction():
                for _ in range(dice.randint(1, 5)):
                    written.append(await connection.fetchval(WRITE, "acme", UUID(int=1)))
                    await asyncio.sleep(dice.random() / 200)

    async with connected(ledger_database.owner_url) as a, connected(ledger_database.owner_url) as b:
        writers = asyncio.gather(write(a), write(b))
        found: list[UUID] = []
        while not writers.done():
            part, mark = await read_on(events, mark)
            found += part
        await writers
    part, mark = await read_on(events, mark)
    found += part
    assert sorted(found) == sorted(written)
    assert len(set(found)) == len(found)
    again, _ = await read_on(events, start)
    assert again == found  # from the first mark on it is the same log


async def test_it_reads_up_to_a_mark(events: Events, ledger_database: Database) -> None:
    start = await now(events)
    async with connected(ledger_database.owner_url) as connection:
        ids = [await connection.fetchval(WRITE, "acme", UUID(int=1)) for _ in range(5)]
        middle = await now(events)
        await connection.fetchval(WRITE, "acme", UUID(int=1))
        await connection.execute(
            "INSERT INTO ferryman.job_audit (actor_kind, actor_id, action)"
            " VALUES ('service', 's', 'queue_paused')"
        )
    batch = await events.read(["acme"], after=start, until=middle, limit=10)
    assert [event.mark.id for event in batch.events] == ids
    assert (batch.upto, batch.is_whole) == (middle, True)
    batch = await events.read(["acme"], after=middle, limit=10, shared=True)
    assert [event.action for event in batch.events] == ["submitted", "queue_paused"]
