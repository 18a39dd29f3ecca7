"""Two sessions meet on one row: whoever commits first wins, the other's change does not happen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Claimed
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt, Verdict
from ferryman.ledger.pool import Pools
from ferryman.ledger.postgres import PostgresLedger
from ferryman.ports import Scope
from tests.support.ledgers import (
    TYPES,
    USER,
    assert_books,
    blocked,
    claim,
    connected,
    new_job,
    rows,
    settlement,
)
from tests.support.servers import Database

FAILURE = Failure(error_class=ErrorClass.TRANSIENT, message="m", details={}, fingerprint="f")
ANYBODY = Scope(tenant_id="acme")
FOREVER_MS = 10**9


class Scene:
    """A job that two sessions will change, and the ledger of each."""

    def __init__(self, first: PostgresLedger, second: PostgresLedger, url: str) -> None:
        self.first = first
        self.second = second
        self.url = url

    async def job(self, *, running: bool) -> tuple[UUID, Claimed | None]:
        """A job whose expiry and lease have both passed, so that anybody may end it."""
        job = new_job(expires_in_ms=60_000)
        await self.first.jobs.insert(job, USER)
        if not running:
            await self._set(job.id, "expires_at = now() - interval '1 ms'")
            return job.id, None
        (claimed,) = await claim(self.first.attempts, job.id)  # type: ignore[arg-type]
        await self._set(job.id, "lease_until = now() - interval '1 ms'")
        return job.id, claimed

    async def row(self, job_id: UUID) -> Any:
        return (await rows(self.url, "SELECT * FROM ferryman.jobs WHERE id = $1", job_id))[0]

    async def retire(self, job_id: UUID) -> None:
        """Out of the way of the next: due in a year, with a lease of a year."""
        year = "now() + interval '1 year'"
        await self._set(
            job_id, f"run_at = {year}, ready_since = {year}, lease_until = {year}, expires_at = NULL"
        )

    async def _set(self, job_id: UUID, assignments: str) -> None:
        await rows(self.url, f"UPDATE ferryman.jobs SET {assignments} WHERE id = $1", job_id)


@pytest.fixture
async def scene(ledger_database: Database) -> AsyncIterator[Scene]:
    pools = [Pools(ledger_database.service_url, shard=shard) for shard in (0, 32)]
    yield Scene(PostgresLedger(pools[0]), PostgresLedger(pools[1]), ledger_database.owner_url)
    for one in pools:
        await one.close()


Move = Callable[[PostgresLedger, UUID, Claimed | None], Coroutine[Any, Any, Any]]


async def _claim(ledger: PostgresLedger, job_id: UUID, _: Claimed | None) -> Any:
    return await ledger.attempts.claim("w2", [(job_id, uuid4())], queue="default", types=TYPES)


async def _claim_ready(ledger: PostgresLedger, job_id: UUID, _: Claimed | None) -> Any:
    return await ledger.attempts.claim_ready("w2", "default", [uuid4()], types=TYPES)


async def _expire(ledger: PostgresLedger, job_id: UUID, _: Claimed | None) -> Any:
    return await ledger.upkeep.expire(limit=10)


async def _cancel(ledger: PostgresLedger, job_id: UUID, _: Claimed | None) -> Any:
    return await ledger.jobs.cancel(ANYBODY, job_id, USER)


async def _complete(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    assert claimed
    return await ledger.attempts.settle("w1", [settlement(claimed, Complete(b"{}"))])


async def _retry(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    assert claimed
    return await ledger.attempts.settle("w1", [settlement(claimed, RetryAt(0, FAILURE))])


async def _bury(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    assert claimed
    return await ledger.attempts.settle("w1", [settlement(claimed, DeadLetter(FAILURE))])


async def _stop(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    assert claimed
    return await ledger.attempts.settle("w1", [settlement(claimed, Cancel())])


async def _release(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    assert claimed
    return await ledger.attempts.settle("w1", [settlement(claimed, Reschedule(0, "released"))])


async def _reap(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    return await ledger.upkeep.reap_expired(steady_ms=FOREVER_MS, limit=10)


async def _isolate(ledger: PostgresLedger, job_id: UUID, claimed: Claimed | None) -> Any:
    assert claimed
    return await ledger.attempts.isolate(job_id, claimed.token)


WAITING: Final[dict[str, Move]] = {
    "claim": _claim,
    "claim ready": _claim_ready,
    "expire": _expire,
    "cancel": _cancel,
}
RUNNING: Final[dict[str, Move]] = {
    "complete": _complete,
    "retry": _retry,
    "bury": _bury,
    "stop": _stop,
    "release": _release,
    "reap": _reap,
    "cancel": _cancel,
    "isolate": _isolate,
}
CASES: Final = [*((False, first) for first in WAITING), *((True, first) for first in RUNNING)]


@pytest.mark.parametrize(("running", "first"), CASES)
async def test_one_wins_and_the_books_balance(scene: Scene, running: bool, first: str) -> None:
    """Both start while a third session holds the row; when it lets go they run in the order they came."""
    moves = RUNNING if running else WAITING
    for second in moves.values():
        job_id, claimed = await scene.job(running=running)
        async with connected(scene.url) as holder:
            hold = holder.transaction()
            await hold.start()
            await holder.execute("SELECT FROM ferryman.jobs WHERE id = $1 FOR UPDATE", job_id)
            one = asyncio.create_task(moves[first](scene.first, job_id, claimed))
            # A move that skips locked rows ends at once, any other waits.
            waiting = asyncio.create_task(blocked(scene.url))
            await asyncio.wait([one, waiting], return_when=asyncio.FIRST_COMPLETED)
            two = asyncio.create_task(second(scene.second, job_id, claimed))
            await hold.rollback()
        await asyncio.gather(one, two)
        waiting.cancel()
        row = await scene.row(job_id)
        assert (row["status"] == "running") == (row["claim_token"] is not None)
        await scene.retire(job_id)
    await assert_books(scene.url)


@pytest.mark.parametrize(("running", "first"), CASES)
async def test_an_end_stands(scene: Scene, running: bool, first: str) -> None:
    """One after the other: what has ended is not touched again."""
    moves = RUNNING if running else WAITING
    for second in moves.values():
        job_id, claimed = await scene.job(running=running)
        await moves[first](scene.first, job_id, claimed)
        before = await scene.row(job_id)
        await second(scene.second, job_id, claimed)
        if before["status"] not in ("pending", "running"):
            assert await scene.row(job_id) == before
        await scene.retire(job_id)
    await assert_books(scene.url)


async def test_batches_in_opposite_orders_do_not_lock_each_other_out(scene: Scene) -> None:
    jobs = [new_job(type=TYPES[number % 3], tenant_id=f"t{number % 5}") for number in range(200)]
    await scene.first.jobs.insert_all(jobs, USER)
    claimed = await claim(scene.first.attempts, *(job.id for job in jobs))  # type: ignore[arg-type]
    forward = [settlement(one) for one in claimed]
    verdicts: list[Verdict] = [RetryAt(0, FAILURE), Complete(b"{}"), DeadLetter(FAILURE)]
    backward = [settlement(one, verdicts[number % 3]) for number, one in enumerate(reversed(claimed))]
    answers = await asyncio.gather(
        *(scene.first.attempts.settle("w1", forward[start : start + 50]) for start in range(0, 200, 50)),
        *(scene.second.attempts.settle("w1", backward[start : start + 50]) for start in range(0, 200, 50)),
    )
    assert sum(len(positions) for positions in answers) == 200
    deadlocks = await rows(
        scene.url, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert deadlocks[0]["deadlocks"] == 0
    await assert_books(scene.url)
