"""Jobs, actors and books for tests of the ledger."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from ferryman.core.ids import uuid7
from ferryman.core.job import Actor, ActorKind, Claimed, NewJob, Settlement
from ferryman.core.status import STATS_OUTCOMES, Action, JobStatus, is_final, is_legal
from ferryman.core.verdict import Complete, Verdict
from ferryman.ledger.attempts import Attempts

USER = Actor(kind=ActorKind.USER, id="7", correlation_id="corr-1", trace_id="a" * 32)
TYPES = ("chat", "memory", "notification")


def new_id() -> UUID:
    """A fresh job id."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def new_job(**fields: Any) -> NewJob:
    """A job of tenant acme, with these fields changed."""
    defaults: dict[str, Any] = {
        "id": new_id(),
        "tenant_id": "acme",
        "user_id": 7,
        "type": "chat",
        "queue": "default",
        "input": b'{"message":"hello"}',
        "max_retries": 3,
        "retry_delay_ms": 1000,
        "visibility_timeout_ms": 30_000,
        "correlation_id": "corr-1",
    }
    return NewJob(**(defaults | fields))


def settlement(claimed: Claimed, verdict: Verdict | None = None, **fields: Any) -> Settlement:
    """The end of a claimed attempt, a plain completion by default."""
    return Settlement(
        id=claimed.id,
        token=claimed.token,
        attempt=claimed.attempt,
        verdict=verdict or Complete(b'{"ok": true}'),
        run_ms=fields.pop("run_ms", 12),
        wait_ms=claimed.wait_ms,
        max_retries=claimed.max_retries,
        **fields,
    )


async def claim(
    attempts: Attempts, *job_ids: UUID, worker: str = "w1", queue: str = "default"
) -> list[Claimed]:
    """Claim jobs with fresh tokens, answered in the order asked for."""
    wanted = [(job_id, uuid4()) for job_id in job_ids]
    claimed = await attempts.claim(worker, wanted, queue=queue, types=TYPES)
    return sorted(claimed, key=lambda one: job_ids.index(one.id))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A plain connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def rows(url: str, sql: str, *arguments: object) -> list[Any]:
    """What one statement answers, over a connection of its own."""
    async with connected(url) as connection:
        return list(await connection.fetch(sql, *arguments))


async def value(url: str, sql: str, *arguments: object) -> Any:
    """The first column of the first row of one statement."""
    async with connected(url) as connection:
        return await connection.fetchval(sql, *arguments)


async def blocked(url: str) -> None:
    """Return once some session of this database waits for a lock."""
    async with connected(url) as connection, asyncio.timeout(10):
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0)


async def assert_books(url: str) -> None:
    """The invariants of the audit against rows, statistics and totals (one end, legal chain, one owner)."""
    audit = await rows(
        url,
        "SELECT job_id, action, from_status, to_status, attempt, details, at FROM ferryman.job_audit"
        " WHERE job_id IS NOT NULL ORDER BY job_id, at, id",
    )
    chains: dict[UUID, list[Any]] = {}
    for row in audit:
        chains.setdefault(row["job_id"], []).append(row)
    jobs = {row["id"]: row for row in await rows(url, "SELECT * FROM ferryman.jobs")}
    assert set(chains) == set(jobs)
    for job_id, chain in chains.items():
        _assert_chain(jobs[job_id], chain)
    await _assert_statistics(url)
    await _assert_totals(url)


def _assert_chain(job: Any, chain: Sequence[Any]) -> None:
    before: JobStatus | None = None
    attempt = 0
    owner: str | None = None
    for row in chain:
        start = row["from_status"] and JobStatus(row["from_status"])
        end = row["to_status"] and JobStatus(row["to_status"])
        assert start == before, f"{row['action']} does not follow {before}"
        assert is_legal(Action(row["action"]), start, end)
        token = json.loads(row["details"] or "{}").get("token")
        if row["action"] == Action.CLAIMED:
            attempt += 1
            assert token
            owner = token
        elif before is JobStatus.RUNNING and end is not JobStatus.RUNNING:
            assert token == owner, f"{row['action']} by somebody who does not own attempt {attempt}"
            owner = None
        assert row["attempt"] == attempt
        before = end
    assert job["status"] == before
    assert job["attempt"] == attempt
    ends = sum(
        1
        for row in chain
        if row["to_status"] and is_final(JobStatus(row["to_status"])) and row["action"] != Action.DISCARDED
    )
    assert ends - sum(row["action"] == Action.REQUEUED for row in chain) <= 1


async def _assert_statistics(url: str) -> None:
    outcomes = ", ".join(f"('{action}', '{outcome}')" for action, outcome in STATS_OUTCOMES.items())
    differing = await rows(
        url,
        f"""
        SELECT * FROM (
            SELECT date_trunc('minute', at) AS minute, tenant_id, queue_name, job_type AS type, outcome,
                count(*) AS n
            FROM ferryman.job_audit JOIN (VALUES {outcomes}) AS o(action, outcome) USING (action)
            GROUP BY 1, 2, 3, 4, 5
        ) AS audit FULL JOIN (
            SELECT minute, tenant_id, queue_name, type, outcome, sum(jobs) AS n
            FROM ferryman.job_stats GROUP BY 1, 2, 3, 4, 5
        ) AS stats USING (minute, tenant_id, queue_name, type, outcome)
        WHERE audit.n IS DISTINCT FROM stats.n
        """,
    )
    assert differing == []


async def _assert_totals(url: str) -> None:
    differing = await rows(
        url,
        """
        SELECT * FROM (
            SELECT tenant_id, queue_name, count(*) FILTER (WHERE action = 'submitted') AS arrivals,
                count(*) FILTER (WHERE action = 'completed') AS completions,
                count(*) FILTER (WHERE action IN ('retried', 'dead_lettered')) AS failures
            FROM ferryman.job_audit WHERE job_id IS NOT NULL GROUP BY 1, 2
        ) AS audit FULL JOIN (
            SELECT tenant_id, queue_name, sum(arrivals) AS arrivals, sum(completions) AS completions,
                sum(failures) AS failures
            FROM ferryman.queue_totals GROUP BY 1, 2
        ) AS totals USING (tenant_id, queue_name)
        WHERE (audit.arrivals, audit.completions, audit.failures)
            IS DISTINCT FROM (totals.arrivals, totals.completions, totals.failures)
        """,
    )
    assert differing == []
