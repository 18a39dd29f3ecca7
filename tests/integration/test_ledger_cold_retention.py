"""Retention: what is older than its queue keeps it goes, no row more, and a dry run counts exactly that."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.core.queues import QueueSettings
from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger import retention
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ports import LetterFilter, Scope
from tests.support.keeping import NOTHING, age_jobs, age_letters, apply, keep
from tests.support.ledgers import blocked, connected, rows, value
from tests.support.servers import Database, database_on
from tests.support.stores import ACME, ADMIN, EVERYONE, PLATFORM, Stores


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def left(database: Database) -> dict[str, int]:
    found = await rows(database.owner_url, "SELECT status, count(*) AS n FROM ferryman.jobs GROUP BY status")
    return {row["status"]: row["n"] for row in found}


async def one_of_each(stores: Stores, database: Database, **fields: Any) -> None:
    """A job in every state; four of them have ended."""
    await stores.ended(**fields)
    await stores.dead(**fields)
    await stores.changes.cancel(EVERYONE, await stores.submitted(**fields), ADMIN)
    late = await stores.submitted(**fields)
    await stores.submitted(**fields)
    await stores.retrying(**fields)
    await stores.running(**fields)
    async with connected(database.owner_url) as connection:
        await connection.execute(
            "UPDATE ferryman.jobs SET status = 'expired', completed_at = now() WHERE id = $1", late
        )


async def test_young_rows_stay(stores: Stores, ledger_database: Database) -> None:
    await one_of_each(stores, ledger_database)
    assert await apply(stores) == NOTHING
    assert sum((await left(ledger_database)).values()) == 7


@pytest.mark.parametrize(
    ("kept", "gone"),
    [
        ({"completed": 1}, {"completed": 1}),
        ({"cancelled": 1}, {"cancelled": 1, "expired": 1}),
        ({"dead_letter": 1}, {"dead_letters": 1}),
        ({"completed": 3, "cancelled": 3, "dead_letter": 3}, {}),
    ],
)
async def test_each_kind_follows_its_own_policy(
    stores: Stores, ledger_database: Database, kept: dict[str, int], gone: dict[str, int]
) -> None:
    await one_of_each(stores, ledger_database)
    await age_jobs(ledger_database, 2)
    await keep(stores, **kept)
    before = await left(ledger_database)
    expected = msgspec.structs.replace(NOTHING, **gone)
    assert await apply(stores, dry_run=True) == expected
    assert await left(ledger_database) == before
    assert await apply(stores) == expected
    statuses = {"dead_letter" if name == "dead_letters" else name for name in gone}
    assert await left(ledger_database) == {s: n for s, n in before.items() if s not in statuses}
    assert await apply(stores) == NOTHING


async def test_a_pruned_job_leaves_its_audit_and_takes_its_letter(
    stores: Stores, ledger_database: Database
) -> None:
    await stores.dead()
    await age_jobs(ledger_database, 2)
    await keep(stores, dead_letter=1)
    (job,) = await rows(ledger_database.owner_url, "SELECT id FROM ferryman.jobs")
    assert (await apply(stores)).dead_letters == 1
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.dead_letter_jobs") == 0
    (row,) = await rows(ledger_database.owner_url, "SELECT * FROM ferryman.job_audit WHERE action = 'pruned'")
    assert (row["job_id"], row["from_status"], row["to_status"]) == (job["id"], "dead_letter", None)
    assert (row["actor_kind"], row["actor_id"], row["tenant_id"]) == ("platform", "ops", "acme")


async def test_letters_of_requeued_jobs_go_by_the_time_they_were_closed(
    stores: Stores, ledger_database: Database
) -> None:
    job_id = await stores.dead()
    await stores.changes.retry(ACME, job_id, ADMIN)
    await age_letters(ledger_database, 2)
    await stores.changes.retry(ACME, await stores.dead(), ADMIN)
    await keep(stores, dead_letter=1)
    assert (await apply(stores, dry_run=True)).dead_letters == 1
    assert (await apply(stores)).dead_letters == 1
    page = await stores.letters.find(ACME, LetterFilter(status=None), limit=9, after=None)
    assert [letter.original_job_id == job_id for letter in page.rows] == [False]
    assert (await left(ledger_database)) == {"pending": 2}


async def test_a_dead_letter_that_is_requeued_survives(stores: Stores, ledger_database: Database) -> None:
    await stores.dead()
    await age_jobs(ledger_database, 2)
    await keep(stores, dead_letter=1)
    (letter,) = (await stores.letters.find(ACME, LetterFilter(), limit=9, after=None)).rows
    assert (await stores.letters.requeue(ACME, letter.id, ADMIN))[0] == "requeued"
    assert await apply(stores) == NOTHING
    assert await left(ledger_database) == {"pending": 1}


async def test_a_requeue_under_way_wins(stores: Stores, ledger_database: Database) -> None:
    await stores.dead()
    await age_jobs(ledger_database, 2)
    await keep(stores, dead_letter=1)
    (letter,) = (await stores.letters.find(ACME, LetterFilter(), limit=9, after=None)).rows
    async with connected(ledger_database.owner_url) as other:
        transaction = other.transaction()
        await transaction.start()
        arguments = ["acme", None, [letter.id], True, 0.0, "user", "7", False, None, None, None, 0]
        await other.fetch(statement("requeue_letters"), *arguments)
        run = asyncio.create_task(apply(stores))
        await blocked(ledger_database.owner_url)
        await transaction.commit()
    assert await run == NOTHING
    assert await left(ledger_database) == {"pending": 1}
    kept = await stores.letters.get(ACME, letter.id)
    assert kept is not None
    assert kept.status == "requeued"


async def test_a_queue_and_a_tenant_narrow(stores: Stores, ledger_database: Database) -> None:
    for tenant in ("acme", "globex"):
        for queue in ("default", "background"):
            await stores.ended(tenant_id=tenant, queue=queue)
    await age_jobs(ledger_database, 2)
    await keep(stores, completed=1)
    await keep(stores, "background", completed=1)
    assert (await apply(stores, ACME, queue="default", dry_run=True)).completed == 1
    assert (await apply(stores, ACME, queue="default")).completed == 1
    assert (await apply(stores, ACME)).completed == 1
    assert (await apply(stores, Scope(tenant_id="globex", user_id=8))).completed == 0
    assert (await apply(stores, queue="background")).completed == 1
    assert await apply(stores, queue="nowhere") == NOTHING
    assert (await apply(stores)).completed == 1


async def test_jobs_of_a_deleted_queue_follow_the_default(stores: Stores, ledger_database: Database) -> None:
    await stores.queues.put("gone", QueueSettings(), PLATFORM)
    await stores.ended(queue="gone")
    await stores.queues.delete("gone", PLATFORM)
    await age_jobs(ledger_database, 24 * 6)
    assert (await apply(stores)).completed == 0
    await age_jobs(ledger_database, 24 * 2)
    assert (await apply(stores, dry_run=True)).completed == 1
    assert (await apply(stores)).completed == 1


async def test_many_rows_go_in_batches(
    stores: Stores, ledger_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    for _ in range(8):
        await stores.ended()
        await stores.submitted()
    await age_jobs(ledger_database, 2)
    await keep(stores, completed=1)
    assert (await apply(stores, dry_run=True)).completed == 8
    assert (await apply(stores)).completed == 8
    assert await left(ledger_database) == {"pending": 8}


@pytest.fixture(scope="session")
async def attic(postgres: EmbeddedPostgres, ledger_template: str) -> AsyncIterator[tuple[Stores, Database]]:
    with database_on(postgres, ledger_template) as database:
        pools = Pools(database.service_url)
        yield Stores.on(pools), database
        await pools.close()


FILL = """
INSERT INTO ferryman.jobs (
    id, tenant_id, user_id, type, queue_name, status, created_at, completed_at, updated_at
)
SELECT ferryman.uuid7(now() - age), tenant, 7, 'chat', queue, status, now() - age, now() - age * share,
    now() - age * share
FROM unnest($1::varchar[], $2::varchar[], $3::varchar[], $4::interval[], $5::float8[])
    AS j (tenant, queue, status, age, share)
"""
LETTERS = """
INSERT INTO ferryman.dead_letter_jobs (
    id, original_job_id, tenant_id, user_id, job_type, status, queue_name, dead_letter_queue, reason,
    error_class, error_fingerprint, error_message, attempt, retry_count, max_retries, failed_at, closed_at,
    original_created_at
)
SELECT ferryman.uuid7(completed_at), id, tenant_id, 7, 'chat',
    CASE WHEN status = 'dead_letter' THEN 'dead' ELSE 'requeued' END, queue_name, 'd', 'failed',
    'SYSTEM', 'f', 'm', 1, 0, 3, completed_at, completed_at, created_at
FROM ferryman.jobs WHERE status IN ('dead_letter', 'pending')
"""
jobs = st.tuples(
    st.sampled_from(["acme", "globex"]),
    st.sampled_from(["default", "background"]),
    st.sampled_from(["pending", "completed", "dead_letter", "cancelled", "expired"]),
    st.integers(1, 100).map(lambda hours: timedelta(hours=hours)),
    st.floats(0.0, 1.0),
)
kept_hours = st.fixed_dictionaries(
    {kind: st.integers(0, 90) for kind in ("completed", "cancelled", "dead_letter")}
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.lists(jobs, max_size=25),
    default=kept_hours,
    background=kept_hours,
    scope=st.sampled_from([EVERYONE, ACME]),
    queue=st.sampled_from([None, "default"]),
    batch=st.integers(1, 7),
)
async def test_an_apply_does_what_its_dry_run_counted(
    attic: tuple[Stores, Database],
    made: list[Any],
    default: dict[str, int],
    background: dict[str, int],
    scope: Scope,
    queue: str | None,
    batch: int,
) -> None:
    stores, database = attic
    async with connected(database.owner_url) as connection:
        await connection.execute("TRUNCATE ferryman.jobs, ferryman.dead_letter_jobs")
        if made:
            await connection.execute(FILL, *(list(column) for column in zip(*made, strict=True)))
        await connection.execute(LETTERS)
    await keep(stores, "default", **default)
    await keep(stores, "background", **background)
    before = await left(database)
    letters_before = await value(database.owner_url, "SELECT count(*) FROM ferryman.dead_letter_jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "BATCH", batch)
        dry = await apply(stores, scope, queue=queue, dry_run=True)
        assert await left(database) == before
        assert await apply(stores, scope, queue=queue) == dry
        assert await apply(stores, scope, queue=queue) == NOTHING
    after = await left(database)
    for status in ("completed", "cancelled", "expired"):
        assert before.get(status, 0) - after.get(status, 0) == getattr(dry, status)
    letters_after = await value(database.owner_url, "SELECT count(*) FROM ferryman.dead_letter_jobs")
    assert letters_before - letters_after == dry.dead_letters
    orphans = """
        SELECT count(*) FROM ferryman.jobs AS j FULL JOIN ferryman.dead_letter_jobs AS d
            ON d.original_job_id = j.id AND d.status = 'dead'
        WHERE (j.status = 'dead_letter' AND d.id IS NULL) OR (d.status = 'dead' AND j.id IS NULL)
    """
    assert await value(database.owner_url, orphans) == 0
