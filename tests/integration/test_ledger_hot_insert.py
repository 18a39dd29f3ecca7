"""Submissions: many callers in one statement, and each of them answered for itself."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ferryman.core.job import Actor, ActorKind, Inserted
from ferryman.core.status import JobStatus
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.pool import Pools
from ferryman.ledger.submissions import Submissions
from ferryman.ports import RejectedDataError, UnknownQueueError
from tests.support.ledgers import (
    USER,
    assert_books,
    blocked,
    claim,
    connected,
    new_job,
    rows,
    settlement,
    value,
)
from tests.support.servers import Database


@pytest.fixture
def submissions(pools: Pools) -> Submissions:
    return Submissions(pools)


async def test_a_submission_is_stored_as_it_was_given(
    submissions: Submissions, ledger_database: Database
) -> None:
    job = new_job(
        priority=9,
        max_retries=5,
        max_retries_given=True,
        timeout_ms=777,
        tags=["plain", 'q"uo\\te', "{,}", "ä"],
        metadata=b'{"order":12}',
        unique_key="k1",
        traceparent="00-" + "b" * 32 + "-" + "c" * 16 + "-01",
    )
    inserted = await submissions.insert(job, USER)
    row = (await rows(ledger_database.owner_url, "SELECT * FROM ferryman.jobs"))[0]
    assert inserted.id == row["id"] == job.id
    assert (inserted.status, inserted.duplicate, inserted.due_in_ms) == (JobStatus.PENDING, False, 0)
    assert inserted.created_at == row["created_at"] == row["run_at"] == row["ready_since"]
    assert inserted.ready_ms == int(row["ready_since"].timestamp() * 1000)
    assert (row["status"], row["attempt"], row["priority"], row["timeout_ms"]) == ("pending", 0, 9, 777)
    assert row["tags"] == job.tags
    assert (row["metadata"], row["input_data"]) == ('{"order": 12}', '{"message": "hello"}')
    assert (row["max_retries"], row["max_retries_given"], row["retry_delay_given"]) == (5, True, False)
    await assert_books(ledger_database.owner_url)


async def test_the_audit_names_actor_override_and_trace(
    submissions: Submissions, ledger_database: Database
) -> None:
    actor = Actor(kind=ActorKind.ADMIN, id="99", override=True, override_reason="asked by phone")
    await submissions.insert(new_job(traceparent="00-" + "b" * 32 + "-" + "c" * 16 + "-01"), actor)
    row = (await rows(ledger_database.owner_url, "SELECT * FROM ferryman.job_audit"))[0]
    assert (row["actor_kind"], row["actor_id"], row["action"]) == ("admin", "99", "submitted")
    assert (row["override"], row["override_reason"]) == (True, "asked by phone")
    assert (row["correlation_id"], row["trace_id"], row["details"]) == ("corr-1", "b" * 32, None)


async def test_concurrent_callers_share_commits(submissions: Submissions, ledger_database: Database) -> None:
    jobs = [new_job(tenant_id=f"t{number % 3}", type=f"type{number % 2}") for number in range(300)]
    inserted = await asyncio.gather(*(submissions.insert(job, USER) for job in jobs))
    assert [one.id for one in inserted] == [job.id for job in jobs]
    commits = await value(ledger_database.owner_url, "SELECT count(DISTINCT xmin::text) FROM ferryman.jobs")
    assert commits <= 4
    await assert_books(ledger_database.owner_url)


@pytest.mark.parametrize(
    "bad",
    [
        {"input": b'{"a":"\\u0000"}'},
        {"input": b"{not json"},
        {"input": b'{"a":"\xff"}'},
        {"tags": ["a\x00b"]},
        {"unique_key": "\ud800"},
        {"user_id": 2**40},
        {"type": "x" * 51},
        {"correlation_id": "y" * 129},
    ],
)
async def test_a_refused_value_fails_its_own_submission_only(
    submissions: Submissions, ledger_database: Database, bad: dict[str, object]
) -> None:
    jobs = [new_job() for _ in range(20)]
    jobs[7] = new_job(**bad)
    answers = await asyncio.gather(*(submissions.insert(job, USER) for job in jobs), return_exceptions=True)
    assert isinstance(answers[7], RejectedDataError)
    assert sum(isinstance(answer, Inserted) for answer in answers) == 19
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 19
    await assert_books(ledger_database.owner_url)


async def test_an_unknown_queue_fails_its_own_submission_only(
    submissions: Submissions, ledger_database: Database
) -> None:
    jobs = [new_job(), new_job(queue="nowhere"), new_job(queue="background")]
    answers = await asyncio.gather(*(submissions.insert(job, USER) for job in jobs), return_exceptions=True)
    assert isinstance(answers[1], UnknownQueueError)
    assert answers[1].queue == "nowhere"
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 2


async def test_times_are_the_ledgers(submissions: Submissions) -> None:
    now = datetime.now(UTC)
    later = await submissions.insert(new_job(run_in_ms=5_000, expires_in_ms=9_000), USER)
    at = await submissions.insert(new_job(run_at=now + timedelta(hours=1)), USER)
    past = await submissions.insert(new_job(run_at=now - timedelta(hours=1)), USER)
    assert (later.status, later.due_in_ms) == (JobStatus.SCHEDULED, 5_000)
    assert later.run_at - later.created_at == timedelta(seconds=5)
    assert later.ready_ms == int(later.run_at.timestamp() * 1000)
    assert at.run_at == now + timedelta(hours=1)
    assert (past.status, past.due_in_ms, past.run_at) == (JobStatus.PENDING, 0, past.created_at)


async def test_twins_of_one_batch_become_one_job(submissions: Submissions, ledger_database: Database) -> None:
    jobs = [new_job(unique_key="order-1", user_id=number) for number in range(30)]
    answers = await asyncio.gather(*(submissions.insert(job, USER) for job in jobs))
    assert len({answer.id for answer in answers}) == 1
    assert sum(not answer.duplicate for answer in answers) == 1
    assert {answer.user_id for answer in answers if answer.duplicate} <= set(range(30))
    await assert_books(ledger_database.owner_url)


async def test_a_unique_key_is_free_again_once_its_job_ended(
    submissions: Submissions, pools: Pools, ledger_database: Database
) -> None:
    attempts = Attempts(pools)
    first = await submissions.insert(new_job(unique_key="k"), USER)
    (claimed,) = await claim(attempts, first.id)
    twin = await submissions.insert(new_job(unique_key="k"), USER)
    assert (twin.id, twin.duplicate, twin.status) == (first.id, True, JobStatus.RUNNING)
    await attempts.settle("w1", [settlement(claimed)])
    second = await submissions.insert(new_job(unique_key="k"), USER)
    assert (second.duplicate, second.status) == (False, JobStatus.PENDING)
    await assert_books(ledger_database.owner_url)


async def test_other_tenants_and_types_have_keys_of_their_own(submissions: Submissions) -> None:
    jobs = [
        new_job(unique_key="k"),
        new_job(unique_key="k", type="memory"),
        new_job(unique_key="k", tenant_id="umbrella"),
    ]
    answers = await submissions.insert_all(jobs, USER)
    assert [answer.duplicate for answer in answers] == [False, False, False]


async def test_bulk_answers_in_order(submissions: Submissions, ledger_database: Database) -> None:
    jobs = [new_job(priority=number % 5) for number in range(1_000)]
    jobs[500] = new_job(unique_key="k")
    jobs[700] = new_job(unique_key="k")
    answers = await submissions.insert_all(jobs, USER)
    assert [answer.id for answer in answers if not answer.duplicate] == [
        job.id for number, job in enumerate(jobs) if number != 700
    ]
    assert (answers[700].id, answers[700].duplicate) == (jobs[500].id, True)
    await assert_books(ledger_database.owner_url)


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize(
    ("bad", "error"),
    [({"input": b'{"a":"\\u0000"}'}, RejectedDataError), ({"queue": "nowhere"}, UnknownQueueError)],
)
async def test_bulk_stores_all_or_none(
    submissions: Submissions,
    ledger_database: Database,
    bad: dict[str, object],
    error: type[Exception],
    key: str | None,
) -> None:
    jobs = [new_job(unique_key=key), *(new_job() for _ in range(9)), new_job(**bad)]
    with pytest.raises(error):
        await submissions.insert_all(jobs, USER)
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 0
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.job_audit") == 0


async def test_bulk_of_nothing(submissions: Submissions) -> None:
    assert await submissions.insert_all([], USER) == []


async def test_a_queue_is_not_deleted_under_its_new_jobs(
    submissions: Submissions, ledger_database: Database
) -> None:
    """A submission waits for a deletion under way, and then finds no queue."""
    async with connected(ledger_database.owner_url) as other:
        deletion = other.transaction()
        await deletion.start()
        await other.execute("DELETE FROM ferryman.queues WHERE name = 'background'")
        submitted = asyncio.create_task(submissions.insert(new_job(queue="background"), USER))
        await blocked(ledger_database.owner_url)
        await deletion.commit()
        with pytest.raises(UnknownQueueError):
            await submitted
