"""Retention under test: what queues keep, rows made older, and one run of it."""

from __future__ import annotations

from datetime import timedelta

from ferryman.core.queues import QueueSettings, Retention
from ferryman.ports import RetentionResult, Scope
from tests.support.ledgers import connected
from tests.support.servers import Database
from tests.support.stores import EVERYONE, PLATFORM, Stores

HOUR_MS = 3_600_000
NOTHING = RetentionResult(completed=0, cancelled=0, expired=0, dead_letters=0, audit=0)


async def apply(
    stores: Stores, scope: Scope = EVERYONE, *, queue: str | None = None, dry_run: bool = False
) -> RetentionResult:
    return await stores.retention.apply(scope, queue=queue, dry_run=dry_run, actor=PLATFORM)


async def keep(stores: Stores, queue: str = "default", **hours: int) -> None:
    """Let the queue keep these kinds of rows for so many hours, and everything else for long."""
    kept = {f"{kind}_ms": count * HOUR_MS for kind, count in hours.items()}
    long = dict.fromkeys(("completed_ms", "cancelled_ms", "dead_letter_ms", "audit_ms"), 10_000 * HOUR_MS)
    await stores.queues.put(queue, QueueSettings(retention=Retention(**(long | kept))), PLATFORM)


async def age_jobs(database: Database, hours: float) -> None:
    """Let every job have ended and been made so many hours earlier, its id included."""
    async with connected(database.owner_url) as connection:
        await connection.execute(
            "UPDATE ferryman.jobs SET completed_at = completed_at - $1::interval,"
            " created_at = created_at - $1::interval",
            timedelta(hours=hours),
        )
        await connection.execute(
            "CREATE TEMP TABLE moved AS SELECT id, ferryman.uuid7(created_at) AS new FROM ferryman.jobs"
        )
        await connection.execute(
            "UPDATE ferryman.dead_letter_jobs AS d SET original_job_id = moved.new FROM moved"
            " WHERE d.original_job_id = moved.id"
        )
        await connection.execute(
            "UPDATE ferryman.jobs SET id = moved.new FROM moved WHERE jobs.id = moved.id"
        )


async def age_letters(database: Database, hours: float) -> None:
    """Let every dead letter have been made and closed so many hours earlier, its id included."""
    async with connected(database.owner_url) as connection:
        await connection.execute(
            "UPDATE ferryman.dead_letter_jobs SET failed_at = failed_at - $1::interval,"
            " closed_at = closed_at - $1::interval, id = ferryman.uuid7(failed_at - $1::interval)",
            timedelta(hours=hours),
        )
