"""Cancel and retry: who wins, what is written, where the job belongs afterwards."""

import asyncio
import json
from uuid import UUID, uuid4

import pytest
from msgspec import structs

from ferryman.core.priority import score
from ferryman.core.queues import QueueSettings
from ferryman.core.status import JobStatus
from ferryman.core.verdict import Cancel, DeadLetter, Reschedule
from ferryman.ledger.pool import Pools
from ferryman.ledger.positions import read_positions
from ferryman.ports import Scope, UnknownQueueError
from tests.support.ledgers import assert_books, blocked, claim, connected, rows, settlement
from tests.support.servers import Database
from tests.support.stores import ACME, ADMIN, BROKEN, GLOBEX, PLATFORM, Stores


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def last_audit(database: Database) -> dict[str, object]:
    found = await rows(
        database.owner_url, "SELECT * FROM ferryman.job_audit ORDER BY at DESC, id DESC LIMIT 1"
    )
    return dict(found[0])


async def status(stores: Stores, job_id: UUID) -> tuple[JobStatus, int, int]:
    job = await stores.lookup.get(ACME, job_id)
    assert job is not None
    return job.status, job.attempt, job.retry_count


async def test_a_waiting_job_is_cancelled_at_once(stores: Stores, ledger_database: Database) -> None:
    job_id = await stores.submitted()
    result, position = await stores.changes.cancel(ACME, job_id, ADMIN)
    assert result == "cancelled"
    assert position is not None
    assert (position.id, position.kind, position.queue) == (job_id, "gone", "default")
    job = await stores.lookup.get(ACME, job_id)
    assert job is not None
    assert job.status == JobStatus.CANCELLED
    assert job.completed_at == job.updated_at
    row = await last_audit(ledger_database)
    assert (row["action"], row["from_status"], row["to_status"]) == ("cancelled", "pending", "cancelled")
    assert (row["actor_kind"], row["actor_id"], row["override"]) == ("admin", "1", True)
    assert (row["override_reason"], row["correlation_id"]) == ("asked for by its owner", "corr-9")
    assert row["trace_id"] == "b" * 32
    await assert_books(ledger_database.owner_url)


@pytest.mark.parametrize("delay_ms", [0, 60_000])
async def test_scheduled_and_retrying_jobs_wait_too(stores: Stores, delay_ms: int) -> None:
    for job_id in (await stores.submitted(run_in_ms=delay_ms), await stores.retrying(delay_ms)):
        assert (await stores.changes.cancel(ACME, job_id, ADMIN))[0] == "cancelled"


async def test_a_running_job_is_asked_once_and_ends_as_cancelled(
    stores: Stores, ledger_database: Database
) -> None:
    claimed = await stores.running()
    result, position = await stores.changes.cancel(ACME, claimed.id, ADMIN)
    assert result == "requested"
    assert position is not None
    assert (position.kind, position.token, position.queue) == ("running", claimed.token, "default")
    assert 80_000 < position.lease_ms <= 90_000
    assert (await stores.changes.cancel(ACME, claimed.id, ADMIN))[0] == "requested"
    asked = await rows(
        ledger_database.owner_url, "SELECT FROM ferryman.job_audit WHERE action = 'cancel_requested'"
    )
    assert len(asked) == 1
    await stores.attempts.settle("w1", [settlement(claimed, Cancel())])
    assert (await status(stores, claimed.id))[0] == JobStatus.CANCELLED
    await assert_books(ledger_database.owner_url)


async def test_what_has_ended_is_not_cancelled(stores: Stores, ledger_database: Database) -> None:
    cancelled = await stores.submitted()
    await stores.changes.cancel(ACME, cancelled, ADMIN)
    for job_id in (await stores.ended(), await stores.dead(), cancelled):
        assert await stores.changes.cancel(ACME, job_id, ADMIN) == ("already_final", None)
    await assert_books(ledger_database.owner_url)


async def test_an_unknown_job_is_not_found(stores: Stores) -> None:
    assert await stores.changes.cancel(ACME, uuid4(), ADMIN) == ("not_found", None)
    assert await stores.changes.retry(ACME, uuid4(), ADMIN) == ("not_found", None)


async def test_cancelling_and_claiming_at_once_has_one_winner(
    stores: Stores, ledger_database: Database
) -> None:
    jobs = [await stores.submitted() for _ in range(40)]
    cancels, claims = await asyncio.gather(
        asyncio.gather(*(stores.changes.cancel(ACME, job_id, ADMIN) for job_id in jobs)),
        asyncio.gather(*(claim(stores.attempts, job_id) for job_id in jobs)),
    )
    for (result, _), claimed in zip(cancels, claims, strict=True):
        assert result == ("requested" if claimed else "cancelled")
    await assert_books(ledger_database.owner_url)


async def test_a_retrying_job_runs_now(stores: Stores, ledger_database: Database) -> None:
    job_id = await stores.retrying(priority=5)
    assert (await status(stores, job_id))[0] == JobStatus.RETRYING
    result, position = await stores.changes.retry(ACME, job_id, ADMIN)
    assert result == "hurried"
    assert position is not None
    assert (position.kind, position.due_in_ms, position.retrying) == ("waiting", 0, True)
    row = (await rows(ledger_database.owner_url, "SELECT * FROM ferryman.jobs"))[0]
    assert row["run_at"] == row["ready_since"]
    ready_ms = int(row["ready_since"].timestamp() * 1000)
    assert position.score == score(ready_ms=ready_ms, priority=5, aging_ms=60_000)
    assert await status(stores, job_id) == (JobStatus.PENDING, 1, 1)
    assert len(await claim(stores.attempts, job_id)) == 1
    await assert_books(ledger_database.owner_url)


async def test_the_position_ages_by_the_queue(stores: Stores) -> None:
    await stores.queues.put("slow", QueueSettings(priority_aging_ms=1_000), PLATFORM)
    job_id = await stores.retrying(queue="slow", priority=50)
    _, position = await stores.changes.retry(ACME, job_id, ADMIN)
    (read,) = await read_positions(stores.pools, [job_id])
    assert position == structs.replace(read, type="")


async def test_other_states_are_not_retryable(stores: Stores, ledger_database: Database) -> None:
    snoozed_due = await stores.ended(Reschedule(0, "snoozed"))
    discarded = await stores.dead()
    await stores.letters.discard(ACME, await stores.letter_of(discarded), ADMIN)
    for job_id in (
        await stores.submitted(),
        await stores.submitted(run_in_ms=60_000),
        (await stores.running()).id,
        await stores.ended(),
        snoozed_due,
        discarded,
    ):
        assert await stores.changes.retry(ACME, job_id, ADMIN) == ("not_retryable", None)
    await assert_books(ledger_database.owner_url)


async def test_a_dead_letter_is_requeued_with_its_retries_anew(
    stores: Stores, ledger_database: Database
) -> None:
    job_id = await stores.retrying(0)
    (claimed,) = await claim(stores.attempts, job_id)
    await stores.attempts.settle("w1", [settlement(claimed, DeadLetter(BROKEN))])
    letter_id = await stores.letter_of(job_id)
    assert await status(stores, job_id) == (JobStatus.DEAD_LETTER, 2, 1)
    result, position = await stores.changes.retry(ACME, job_id, ADMIN)
    assert result == "requeued"
    assert position is not None
    assert (position.kind, position.due_in_ms, position.retrying) == ("waiting", 0, True)
    job = await stores.lookup.get(ACME, job_id)
    assert job is not None
    assert (job.status, job.attempt, job.retry_count, job.crashes) == (JobStatus.PENDING, 2, 0, 0)
    assert (job.completed_at, job.started_at, job.worker_id) == (None, None, None)
    letter = await stores.letters.get(ACME, letter_id)
    assert letter is not None
    assert letter.status == "requeued"
    row = await last_audit(ledger_database)
    assert (row["action"], row["override"]) == ("requeued", True)
    assert json.loads(str(row["details"]))["deadLetterId"] == str(letter_id)
    (again,) = await claim(stores.attempts, job_id)
    assert again.attempt == 3
    await stores.attempts.settle("w1", [settlement(again, DeadLetter(BROKEN))])
    newest = await stores.letters.get(ACME, await stores.letter_of(job_id))
    assert newest is not None
    assert (newest.status, newest.redrives) == ("dead", 1)
    assert [one["attempt"] for one in json.loads(newest.attempts)] == [1, 2, 3]
    await assert_books(ledger_database.owner_url)


async def test_a_passed_expiry_is_lifted_by_a_requeue(stores: Stores, ledger_database: Database) -> None:
    passed, ahead = await stores.dead(expires_in_ms=60_000), await stores.dead(expires_in_ms=600_000)
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute(
            "UPDATE ferryman.jobs SET expires_at = now() - interval '1 s' WHERE id = $1", passed
        )
    for job_id in (passed, ahead):
        assert (await stores.changes.retry(ACME, job_id, ADMIN))[0] == "requeued"
    jobs = [await stores.lookup.get(ACME, job_id) for job_id in (passed, ahead)]
    assert [job is not None and job.expires_at is not None for job in jobs] == [False, True]
    assert len(await claim(stores.attempts, passed)) == 1


async def test_a_requeue_waits_for_an_unfinished_twin(stores: Stores, ledger_database: Database) -> None:
    job_id = await stores.dead(unique_key="k")
    twin = await stores.submitted(unique_key="k")
    assert await stores.changes.retry(ACME, job_id, ADMIN) == ("twin_unfinished", None)
    assert (await stores.letters.requeue(ACME, await stores.letter_of(job_id), ADMIN))[0] == "twin_unfinished"
    await stores.changes.cancel(ACME, twin, ADMIN)
    assert (await stores.changes.retry(ACME, job_id, ADMIN))[0] == "requeued"
    await assert_books(ledger_database.owner_url)


async def test_a_twin_that_is_submitted_meanwhile_is_seen_by_the_next_try(
    stores: Stores, ledger_database: Database
) -> None:
    job_id = await stores.dead(unique_key="k")
    async with connected(ledger_database.owner_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO ferryman.jobs (id, tenant_id, user_id, type, unique_key)"
            " VALUES ($1, 'acme', 7, 'chat', 'k')",
            uuid4(),
        )
        retry = asyncio.create_task(stores.changes.retry(ACME, job_id, ADMIN))
        await blocked(ledger_database.owner_url)
        await transaction.commit()
    assert await retry == ("twin_unfinished", None)


async def test_a_requeue_needs_its_queue(stores: Stores) -> None:
    await stores.queues.put("gone", QueueSettings(), PLATFORM)
    job_id = await stores.dead(queue="gone")
    assert await stores.queues.delete("gone", PLATFORM)
    with pytest.raises(UnknownQueueError) as caught:
        await stores.changes.retry(ACME, job_id, ADMIN)
    assert caught.value.queue == "gone"
    await stores.queues.put("gone", QueueSettings(), PLATFORM)
    assert (await stores.changes.retry(ACME, job_id, ADMIN))[0] == "requeued"


async def test_nobody_changes_what_is_not_in_the_scope(stores: Stores, ledger_database: Database) -> None:
    for scope in (GLOBEX, Scope(tenant_id="acme", user_id=8), Scope(tenant_id="globex", user_id=7)):
        for job_id in (await stores.submitted(), await stores.retrying(), await stores.dead()):
            assert await stores.changes.cancel(scope, job_id, ADMIN) == ("not_found", None)
            assert await stores.changes.retry(scope, job_id, ADMIN) == ("not_found", None)
    mine = Scope(tenant_id="acme", user_id=7)
    assert (await stores.changes.cancel(mine, await stores.submitted(), ADMIN))[0] == "cancelled"
    assert (await stores.changes.retry(mine, await stores.dead(), ADMIN))[0] == "requeued"
    await assert_books(ledger_database.owner_url)
