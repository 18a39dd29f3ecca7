"""The audit goes after its time, with the statistics that count it, so that the two stay equal."""

import pytest

from ferryman.ledger.pool import Pools
from ferryman.ports import RetentionResult
from tests.support.keeping import apply, keep
from tests.support.ledgers import connected, rows, value
from tests.support.servers import Database
from tests.support.stores import ACME, Stores

AUDIT = """
WITH written AS (
    INSERT INTO ferryman.job_audit (
        at, tenant_id, actor_kind, actor_id, action, job_id, job_type, queue_name, from_status, to_status,
        attempt
    )
    SELECT now() - hours * interval '1 hour', tenant, 'worker', 'w', 'completed', gen_random_uuid(), 'chat',
        queue, 'running', 'completed', 1
    FROM unnest($1::float8[]) AS hours, unnest($2::varchar[]) AS queue, unnest($3::varchar[]) AS tenant
    RETURNING at, tenant_id, queue_name
)
INSERT INTO ferryman.job_stats AS s (
    minute, tenant_id, queue_name, type, outcome, shard, wait_bucket, run_bucket, jobs
)
SELECT date_trunc('minute', at), tenant_id, queue_name, 'chat', 'completed', 0, 0, 0, count(*)
FROM written WHERE queue_name IS NOT NULL GROUP BY 1, 2, 3
ON CONFLICT (queue_name, minute, tenant_id, type, outcome, shard, wait_bucket, run_bucket)
DO UPDATE SET jobs = s.jobs + EXCLUDED.jobs
"""
DAY = """
DO $$ DECLARE
    day timestamptz := date_trunc('day', now(), 'UTC') - %d * interval '24 hours';
BEGIN
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS ferryman.job_audit_%%s PARTITION OF ferryman.job_audit'
        ' FOR VALUES FROM (%%L) TO (%%L)',
        to_char(day AT TIME ZONE 'UTC', 'YYYYMMDD'), day, day + interval '24 hours'
    );
END $$
"""
WRITTEN = "SELECT count(*) FROM ferryman.job_audit WHERE action = 'completed'"
DAYS = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'ferryman.job_audit'::regclass"


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def write_audit(database: Database, hours: list[float], queues: list[str | None]) -> None:
    """Audit rows so many hours old of each queue for two tenants, in day partitions of their own."""
    async with connected(database.owner_url) as connection:
        for day in range(1, 8):
            await connection.execute(DAY % day)
        await connection.execute(AUDIT, hours, queues, ["acme", "globex"])


async def assert_statistics(database: Database) -> None:
    differing = await rows(
        database.owner_url,
        """
        SELECT * FROM (
            SELECT date_trunc('minute', at) AS minute, tenant_id, queue_name, count(*) AS n
            FROM ferryman.job_audit WHERE action = 'completed' AND queue_name IS NOT NULL GROUP BY 1, 2, 3
        ) AS audit FULL JOIN (
            SELECT minute, tenant_id, queue_name, sum(jobs) AS n FROM ferryman.job_stats GROUP BY 1, 2, 3
        ) AS stats USING (minute, tenant_id, queue_name)
        WHERE audit.n IS DISTINCT FROM stats.n
        """,
    )
    assert differing == []


async def test_the_audit_goes_with_its_statistics_by_queue(stores: Stores, ledger_database: Database) -> None:
    await write_audit(ledger_database, [1, 30, 60, 100], ["default", "background"])
    await keep(stores, audit=48)
    await keep(stores, "background", audit=72)
    await keep(stores, "high_priority", audit=72)
    days = await value(ledger_database.owner_url, DAYS)
    expected = RetentionResult(completed=0, cancelled=0, expired=0, dead_letters=0, audit=6)
    assert await apply(stores, dry_run=True) == expected
    assert await apply(stores) == expected
    assert await value(ledger_database.owner_url, DAYS) < days, "whole days were dropped"
    found = await rows(
        ledger_database.owner_url,
        "SELECT queue_name, count(*) AS n FROM ferryman.job_audit WHERE action = 'completed' GROUP BY 1",
    )
    assert {row["queue_name"]: row["n"] for row in found} == {"default": 4, "background": 6}
    await assert_statistics(ledger_database)


async def test_one_queue_prunes_its_own_audit_only(stores: Stores, ledger_database: Database) -> None:
    await write_audit(ledger_database, [1, 100], ["default", "background", None])
    for queue in ("default", "background", "high_priority"):
        await keep(stores, queue, audit=48)
    assert (await apply(stores, queue="default", dry_run=True)).audit == 2
    assert (await apply(stores, queue="default")).audit == 2
    assert (await apply(stores, dry_run=True)).audit == 4
    assert (await apply(stores)).audit == 4
    await assert_statistics(ledger_database)


async def test_a_tenant_leaves_the_audit_alone(stores: Stores, ledger_database: Database) -> None:
    await write_audit(ledger_database, [100], ["default"])
    await keep(stores, audit=1)
    assert (await apply(stores, ACME, dry_run=True)).audit == 0
    assert (await apply(stores, ACME)).audit == 0
    assert (
        await value(
            ledger_database.owner_url, "SELECT count(*) FROM ferryman.job_audit WHERE action = 'completed'"
        )
        == 2
    )


async def test_keeping_nothing_spares_what_the_pruning_writes(
    stores: Stores, ledger_database: Database
) -> None:
    await stores.ended()
    for queue in ("default", "background", "high_priority"):
        await keep(stores, queue, completed=0, audit=0)
    dry = await apply(stores, dry_run=True)
    assert dry.completed == 1
    assert (await apply(stores)).completed == 1
    pruned = "SELECT count(*) FROM ferryman.job_audit WHERE action = 'pruned'"
    assert await value(ledger_database.owner_url, pruned) == 1
