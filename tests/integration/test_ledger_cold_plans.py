"""Plans: the cold statements read what they need, whatever the statistics say."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import pytest

from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.pool import READ_SETTINGS
from ferryman.ledger.statements import statement
from tests.support.ledgers import connected
from tests.support.servers import Database, database_on

ROWS = 40_000
LAST, FIRST = UUID(int=2**128 - 1), UUID(int=0)
FILL = """
INSERT INTO ferryman.jobs (
    id, tenant_id, user_id, type, queue_name, status, run_at, ready_since, claim_token, lease_until,
    started_at
)
SELECT ferryman.uuid7(now() - n * interval '1 min'), CASE WHEN n % 100 = 0 THEN 'small' ELSE 'large' END,
    n % 50, 'chat', 'default',
    CASE WHEN n < 20000 THEN 'pending' WHEN n < 20010 THEN 'running' ELSE 'completed' END,
    now() + n * interval '1 s', now() + n * interval '1 s',
    CASE WHEN n BETWEEN 20000 AND 20009 THEN gen_random_uuid() END, now(), now()
FROM generate_series(1, $1::int) AS n
"""
LETTERS = """
INSERT INTO ferryman.dead_letter_jobs (
    id, original_job_id, tenant_id, user_id, job_type, status, queue_name, dead_letter_queue, reason,
    error_class, error_fingerprint, error_message, attempt, retry_count, max_retries, original_created_at
)
SELECT ferryman.uuid7(now() - n * interval '1 min'), gen_random_uuid(),
    CASE WHEN n % 100 = 0 THEN 'small' ELSE 'large' END, n % 50, 'chat',
    CASE WHEN n % 7 = 0 THEN 'discarded' ELSE 'dead' END, 'default', 'd', 'failed', 'SYSTEM', 'f', 'm',
    1, 0, 3, now()
FROM generate_series(1, $1::int) AS n
"""
AUDIT = """
INSERT INTO ferryman.job_audit (tenant_id, actor_kind, actor_id, action, job_id, queue_name)
SELECT CASE WHEN n % 50 = 0 THEN 'small' ELSE 'large' END, 'worker', 'w', 'claimed', gen_random_uuid(),
    'default'
FROM generate_series(1, 100) AS n
"""


KNOWLEDGE = ("never analysed", "analysed", "bloated", "stale")


@pytest.fixture(scope="module", params=KNOWLEDGE)
async def archive(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, ledger_template: str
) -> AsyncIterator[Database]:
    """Two tenants, a hundred times apart in size, on a server that knows much, little or nothing of them."""
    with database_on(postgres, ledger_template) as database:
        async with connected(database.owner_url) as connection:
            await connection.execute("ALTER TABLE ferryman.jobs SET (autovacuum_enabled = off)")
            if request.param == "stale":
                await connection.execute(FILL, 1)
                await connection.execute("ANALYZE ferryman.jobs")
                await connection.execute("DELETE FROM ferryman.jobs")
            await connection.execute(FILL, ROWS)
            await connection.execute(LETTERS, ROWS // 10)
            for _ in range(100):
                await connection.execute(AUDIT)
            if request.param in ("analysed", "bloated"):
                await connection.execute("ANALYZE")
            if request.param in ("bloated", "stale"):
                await connection.execute("UPDATE ferryman.jobs SET updated_at = now()")
        yield database


async def read_rows(database: Database, name: str, *arguments: Any) -> float:
    """How many rows the scans of a statement's generic plan touched, kept or thrown away."""
    async with connected(database.service_url) as connection:
        for setting, value in READ_SETTINGS.items():
            await connection.execute("SELECT set_config($1, $2, false)", setting, value)
        await connection.execute(f"PREPARE asked AS {statement(name)}")
        given = ", ".join(_literal(argument) for argument in arguments)
        row = await connection.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({given})")
    return sum(_touched(node) for node in _nodes(json.loads(row[0])[0]["Plan"]))


def _literal(argument: Any) -> str:
    match argument:
        case None:
            return "NULL"
        case bool() | int() | float():
            return str(argument)
        case list():
            return "'{" + ",".join(str(item) for item in argument) + "}'"
        case _:
            return f"'{argument}'"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _touched(node: dict[str, Any]) -> float:
    if not str(node.get("Relation Name")).startswith(("jobs", "dead_letter_jobs", "job_audit")):
        return 0
    removed = node.get("Rows Removed by Filter", 0)
    touched: float = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return touched


def search(tenant: str | None, user: int | None, *, open_status: str | None = None) -> list[Any]:
    """Arguments of a search for 50 jobs."""
    none: list[str] = []
    statuses = None if open_status is None else [open_status]
    wanted = [statuses, None, None, None, none, none, none, None, None]
    return [tenant, user, LAST, FIRST, *wanted, 50, 8_000_000, open_status is not None]


@pytest.mark.parametrize("tenant", ["small", "large", None])
async def test_a_page_reads_a_page(archive: Database, tenant: str | None) -> None:
    assert await read_rows(archive, "find_jobs", *search(tenant, None)) == 51


async def test_a_users_page_reads_that_users_rows(archive: Database) -> None:
    assert await read_rows(archive, "find_jobs", *search("large", 3)) == 51
    assert await read_rows(archive, "find_jobs", *search("small", 3)) == 0


# Two indexes of the same columns look alike to a server that believes in a table of one row.
@pytest.mark.parametrize("archive", KNOWLEDGE[:3], indirect=True)
async def test_open_jobs_are_found_among_ended_ones(archive: Database) -> None:
    assert await read_rows(archive, "find_jobs", *search("large", None, open_status="running")) <= 19_810
    unfinished = 20_010 // 100
    assert (
        await read_rows(archive, "find_jobs", *search("small", None, open_status="dead_letter")) <= unfinished
    )


async def test_a_deep_page_reads_no_more_than_the_first(archive: Database) -> None:
    async with connected(archive.owner_url) as connection:
        middle = await connection.fetchval(
            "SELECT id FROM ferryman.jobs WHERE tenant_id = 'large' ORDER BY id OFFSET 9000 LIMIT 1"
        )
    arguments = search("large", None)
    arguments[2] = middle
    assert await read_rows(archive, "find_jobs", *arguments) == 51


@pytest.mark.parametrize("status", ["dead", "discarded", None])
@pytest.mark.parametrize("tenant", ["small", "large", None])
async def test_a_page_of_letters_reads_a_page(
    archive: Database, tenant: str | None, status: str | None
) -> None:
    arguments = [tenant, None, LAST, status, None, None, None, None, None, None, 5, 8_000_000]
    # Each status has a branch of its own, which looks one row ahead; across tenants there is but one.
    assert await read_rows(archive, "find_letters", *arguments) <= 6 * 7 + 2


@pytest.mark.parametrize("tenant", ["small", "large"])
async def test_a_page_of_the_audit_reads_a_few_transactions(archive: Database, tenant: str) -> None:
    nothing: list[None] = [None] * 6
    async with connected(archive.owner_url) as connection:
        middle = await connection.fetchrow(
            "SELECT xid::text, id FROM ferryman.job_audit WHERE tenant_id = $1"
            " ORDER BY xid OFFSET 99 LIMIT 1",
            tenant,
        )
    for after in ((None, None), middle):
        assert await read_rows(archive, "find_audit", tenant, *nothing, 51, *after) <= 51 + 2 * 98


async def test_single_rows_are_read_by_id(archive: Database) -> None:
    for name, arguments in (
        ("get_job", ["large", None, LAST]),
        ("cancel_job", ["large", None, LAST, "user", "1", False, None, None, None, 0]),
        ("hurry_job", ["large", None, LAST, "user", "1", False, None, None, None]),
        ("discard_letter", ["large", None, LAST, "user", "1", False, None, None, None]),
        ("requeue_letters", ["large", None, [LAST], True, 0.0, "user", "1", False, None, None, None, 0]),
        ("get_letters", ["large", None, [LAST]]),
        ("get_statuses", [[LAST]]),
    ):
        assert await read_rows(archive, name, *arguments) == 0, name


async def test_figures_do_not_read_what_waits(archive: Database) -> None:
    touched = await read_rows(archive, "ledger_figures", "default", None, [1_000, 60_000], 6_000)
    letters = ROWS // 10
    assert touched <= letters + 200


async def test_a_batch_of_retention_reads_a_batch(archive: Database) -> None:
    kept: list[Any] = [[], [], [], []]
    for tenant in ("small", "large", None):
        arguments = [tenant, None, None, FIRST, LAST, 100, *kept, True, "s", "1", False, None, None, None]
        assert await read_rows(archive, "prune_jobs", *arguments) <= 101


async def test_the_relay_reads_on_where_it_was(archive: Database) -> None:
    async with connected(archive.owner_url) as connection:
        await connection.execute("DELETE FROM ferryman.webhooks; DELETE FROM ferryman.webhook_cursors")
        await connection.execute(
            "INSERT INTO ferryman.webhooks (id, tenant_id, url, events, queues, types, enabled, since)"
            " VALUES (gen_random_uuid(), 'large', 'https://x.example/', '{}', '{}', '{}', true, '3:3:')"
        )
        await connection.execute(
            "INSERT INTO ferryman.webhook_cursors SELECT tenant_id, xid, id FROM ferryman.job_audit"
            " WHERE tenant_id = 'large' ORDER BY xid OFFSET 99 LIMIT 1"
        )
    # Of the transaction that the cursor is in, of the next ones up to the limit, and a row for each question.
    assert await read_rows(archive, "read_relay", 100, 20) <= 3 * 98 + 100 + 2


async def test_deliveries_are_found_by_their_endpoint(archive: Database) -> None:
    assert await read_rows(archive, "find_deliveries", LAST, LAST, 51) == 0
