"""Jobs as users read them: one, a page under any filter, attempts, history."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.core.status import JobStatus, visible_status
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt
from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.lookup import PAGE_BYTES
from ferryman.ledger.pool import Pools
from ferryman.ports import JobFilter, QueryTooExpensiveError, Scope
from tests.support.ledgers import USER, claim, connected, new_job, rows, settlement
from tests.support.servers import Database, database_on
from tests.support.stores import ACME, ADMIN, BROKEN, EVERYONE, GLOBEX, Stores

MINE = Scope(tenant_id="acme", user_id=7)
TRACE = "00-" + "c" * 32 + "-" + "d" * 16 + "-01"


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def test_a_job_is_read_as_it_was_stored(stores: Stores) -> None:
    job = new_job(
        priority=9,
        max_retries=4,
        timeout_ms=777,
        tags=["b", "a"],
        metadata=b'{"order": 12}',
        unique_key="k",
        traceparent=TRACE,
        expires_in_ms=60_000,
    )
    inserted = await stores.submissions.insert(job, USER)
    read = await stores.lookup.get(MINE, job.id)
    assert read is not None
    assert (read.id, read.tenant_id, read.user_id, read.type, read.queue) == (
        job.id,
        "acme",
        7,
        "chat",
        "default",
    )
    assert (read.status, read.priority, read.attempt, read.retry_count) == (JobStatus.PENDING, 9, 0, 0)
    assert (read.max_retries, read.retry_delay_ms, read.visibility_timeout_ms) == (4, 1000, 30_000)
    assert (read.timeout_ms, read.tags, read.unique_key) == (777, ["b", "a"], "k")
    assert (json.loads(read.input), json.loads(read.metadata)) == ({"message": "hello"}, {"order": 12})
    assert (read.output, read.error_class, read.error_details, read.progress_percent) == (None,) * 4
    assert (read.correlation_id, read.traceparent) == ("corr-1", TRACE)
    assert read.created_at == read.run_at == inserted.created_at
    assert read.expires_at == read.created_at + timedelta(minutes=1)


async def test_output_and_error_come_with_the_job(stores: Stores) -> None:
    done = await stores.lookup.get(ACME, await stores.ended(Complete(b'{"n": 1}')))
    dead = await stores.lookup.get(ACME, await stores.dead())
    assert done is not None
    assert dead is not None
    assert json.loads(done.output or b"") == {"n": 1}
    assert (dead.error_class, dead.error_message, dead.fingerprint) == ("PERMANENT", "it broke", "f" * 16)
    assert json.loads(dead.error_details or b"") == {"line": 3}


async def test_time_alone_turns_waiting_statuses(stores: Stores, ledger_database: Database) -> None:
    scheduled, retrying = await stores.submitted(run_in_ms=60_000), await stores.retrying()
    wanted = JobFilter(statuses=(JobStatus.SCHEDULED, JobStatus.RETRYING))

    async def seen() -> list[JobStatus]:
        jobs = [await stores.lookup.get(ACME, job_id) for job_id in (scheduled, retrying)]
        return [job.status for job in jobs if job is not None]

    assert await seen() == [JobStatus.SCHEDULED, JobStatus.RETRYING]
    assert len((await stores.lookup.find(ACME, wanted, limit=9, after=None)).rows) == 2
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute("UPDATE ferryman.jobs SET run_at = now()")
    assert await seen() == [JobStatus.PENDING, JobStatus.PENDING]
    assert (await stores.lookup.find(ACME, wanted, limit=9, after=None)).rows == []


async def test_statuses_are_stored_ones_and_leave_unknown_ids_out(stores: Stores) -> None:
    scheduled, done = await stores.submitted(run_in_ms=60_000), await stores.ended()
    assert await stores.lookup.statuses([scheduled, done, uuid4()]) == {
        scheduled: JobStatus.PENDING,
        done: JobStatus.COMPLETED,
    }


async def test_a_page_of_large_documents_is_shorter(stores: Stores) -> None:
    text = b"x" * (PAGE_BYTES // 3)
    ids = [await stores.submitted(input=b'{"m":"' + text + b'"}') for _ in range(6)]
    seen: list[UUID] = []
    after: UUID | None = None
    pages = 0
    while pages == 0 or after is not None:
        page = await stores.lookup.find(ACME, JobFilter(), limit=50, after=after)
        assert 1 <= len(page.rows) <= 4
        seen += [job.id for job in page.rows]
        after, pages = page.next_after, pages + 1
    assert seen == ids[::-1]


async def test_a_search_that_takes_too_long_says_so(stores: Stores, ledger_database: Database) -> None:
    await stores.submitted()
    async with connected(ledger_database.owner_url) as connection, connection.transaction():
        await connection.execute("LOCK TABLE ferryman.jobs")
        await stores.pools.read.fetch("SET statement_timeout = '50ms'")
        with pytest.raises(QueryTooExpensiveError):
            await stores.lookup.find(ACME, JobFilter(), limit=9, after=None)


async def _attempts(stores: Stores, job_id: UUID) -> list[Any]:
    found = await stores.lookup.get_with_attempts(ACME, job_id)
    assert found is not None
    job, attempts = found
    assert job == await stores.lookup.get(ACME, job_id)
    return attempts


async def test_attempts_tell_of_each(stores: Stores) -> None:
    job_id = await stores.ended(RetryAt(0, BROKEN), traceparent=TRACE)
    for verdict in (Reschedule(0, "snoozed"), Reschedule(0, "released")):
        (claimed,) = await claim(stores.attempts, job_id)
        await stores.attempts.settle("w1", [settlement(claimed, verdict)])
    (claimed,) = await claim(stores.attempts, job_id, worker="w2")
    attempts = await _attempts(stores, job_id)
    assert [(one["attempt"], one["outcome"]) for one in attempts] == [
        (1, "retried"),
        (2, "snoozed"),
        (3, "released"),
        (4, "running"),
    ]
    assert [one["countsAsRetry"] for one in attempts] == [True, False, False, False]
    assert {frozenset(one) for one in attempts} == {frozenset(attempts[0])}
    assert attempts[0]["error"]["message"] == "it broke"
    running = attempts[3]
    assert (running["workerId"], running["endedAt"], running["error"]) == ("w2", None, None)
    assert {one["traceId"] for one in attempts} == {"c" * 32}
    await stores.attempts.settle("w2", [settlement(claimed)])
    last = (await _attempts(stores, job_id))[-1]
    assert (last["attempt"], last["outcome"]) == (4, "completed")
    assert last["startedAt"] <= last["endedAt"]
    assert min(last["runMs"], last["waitMs"]) >= 0


@pytest.mark.parametrize(
    ("verdict", "outcome"), [(Cancel(), "cancelled"), (DeadLetter(BROKEN), "dead_lettered")]
)
async def test_an_attempt_that_was_kept_is_not_told_twice(stores: Stores, verdict: Any, outcome: str) -> None:
    job_id = await stores.ended(verdict)
    assert [one["outcome"] for one in await _attempts(stores, job_id)] == [outcome]


async def test_a_job_that_never_ran_has_no_attempts(stores: Stores) -> None:
    job_id = await stores.submitted()
    await stores.changes.cancel(ACME, job_id, ADMIN)
    assert await _attempts(stores, job_id) == []


async def test_history_tells_everything_in_order(stores: Stores) -> None:
    job_id = await stores.dead()
    await stores.changes.retry(ACME, job_id, ADMIN)
    page: Any = await stores.lookup.history(MINE, job_id, limit=50, after=None)
    assert [row["action"] for row in page.rows] == ["submitted", "claimed", "dead_lettered", "requeued"]
    assert [row["toStatus"] for row in page.rows] == ["pending", "running", "dead_letter", "pending"]
    last = page.rows[-1]
    assert " ".join(last) == (
        "auditId at tenantId actor action jobId queue fromStatus toStatus attempt override overrideReason"
        " correlationId traceId details"
    )
    assert (last["actor"], last["override"]) == ({"kind": "admin", "id": "1"}, True)
    assert (last["overrideReason"], last["correlationId"]) == ("asked for by its owner", "corr-9")
    assert (last["jobId"], last["queue"], last["tenantId"]) == (str(job_id), "default", "acme")
    assert last["details"]["resetRetries"] is True
    for limit in (1, 2, 3, 4):
        seen: list[Any] = []
        after = None
        while True:
            part = await stores.lookup.history(MINE, job_id, limit=limit, after=after)
            seen += part.rows
            after = part.next_after
            if after is None:
                break
        assert seen == page.rows


async def test_history_is_for_whom_the_job_is(stores: Stores, ledger_database: Database) -> None:
    job_id = await stores.ended()
    for scope in (GLOBEX, Scope(tenant_id="acme", user_id=8), Scope(tenant_id="globex", user_id=7)):
        assert (await stores.lookup.history(scope, job_id, limit=9, after=None)).rows == []
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute("DELETE FROM ferryman.jobs")
    assert len((await stores.lookup.history(ACME, job_id, limit=9, after=None)).rows) == 3
    assert (await stores.lookup.history(MINE, job_id, limit=9, after=None)).rows == []


# A hundred jobs of every kind, read under any filter and in pages of any size.

TENANTS, USERS, QUEUES, TYPES = ("acme", "globex"), (1, 2, 3), ("default", "mail"), ("chat", "memory")
STATES = ("pending", "running", "completed", "dead_letter", "cancelled", "expired")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
FILL = """
INSERT INTO ferryman.jobs (
    id, tenant_id, user_id, type, queue_name, status, attempt, run_at, created_at, tags, metadata, claim_token
)
SELECT ferryman.uuid7($1::timestamptz + n * interval '7 hours'), ($2::text[])[n % 2 + 1], n % 3 + 1,
    (ARRAY['chat', 'memory'])[n / 2 % 2 + 1], (ARRAY['default', 'mail'])[n / 3 % 2 + 1], state, n % 4,
    CASE WHEN n % 5 = 0 THEN now() + interval '1 day' ELSE $1 END, $1 + n * interval '7 hours',
    CASE n % 3 WHEN 0 THEN '{}' WHEN 1 THEN ARRAY['a'] ELSE ARRAY['b', 'a'] END,
    (ARRAY['{}', '{"k": "1"}', '{"k": 1, "l": true}', '{"l": "x"}']::jsonb[])[n % 4 + 1],
    CASE WHEN state = 'running' THEN gen_random_uuid() END
FROM generate_series(0, 119) AS n, LATERAL (SELECT ($3::text[])[n / 2 % 6 + 1] AS state) AS s
"""


@pytest.fixture(scope="session")
async def library(
    postgres: EmbeddedPostgres, ledger_template: str
) -> AsyncIterator[tuple[Stores, list[Any]]]:
    with database_on(postgres, ledger_template) as database:
        async with connected(database.owner_url) as connection:
            await connection.execute(FILL, EPOCH, list(TENANTS), list(STATES))
        pools = Pools(database.service_url)
        yield Stores.on(pools), await rows(database.owner_url, "SELECT * FROM ferryman.jobs ORDER BY id DESC")
        await pools.close()


def some(values: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(st.sampled_from(values), unique=True, max_size=2).map(tuple)


instants = st.none() | st.integers(-10, 900).map(lambda hours: EPOCH + timedelta(hours=hours))
filters = st.builds(
    JobFilter,
    statuses=some(list(JobStatus)),
    types=some(TYPES),
    queues=some(QUEUES),
    tags=some(("a", "b")),
    user_ids=some(USERS),
    metadata=st.dictionaries(st.sampled_from("kl"), st.sampled_from(("1", "true", "x")), max_size=2),
    created_after=instants,
    created_before=instants,
)
scopes = st.sampled_from(
    [Scope(tenant_id=t, user_id=u) for t in (*TENANTS, None) for u in (None, 2)] + [Scope(tenant_id="nobody")]
)


def matches(row: Any, scope: Scope, wanted: JobFilter) -> bool:
    now = datetime.now(UTC)
    status = visible_status(JobStatus(row["status"]), attempt=row["attempt"], run_at=row["run_at"], now=now)
    metadata = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in json.loads(row["metadata"]).items()
    }
    return (
        scope.tenant_id in (None, row["tenant_id"])
        and scope.user_id in (None, row["user_id"])
        and (not wanted.statuses or status in wanted.statuses)
        and (not wanted.types or row["type"] in wanted.types)
        and (not wanted.queues or row["queue_name"] in wanted.queues)
        and (not wanted.user_ids or row["user_id"] in wanted.user_ids)
        and set(wanted.tags) <= set(row["tags"])
        and all(metadata.get(key) == value for key, value in wanted.metadata.items())
        and (wanted.created_after is None or row["created_at"] >= wanted.created_after)
        and (wanted.created_before is None or row["created_at"] < wanted.created_before)
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scope=scopes, wanted=filters, limit=st.integers(1, 130))
async def test_pages_cover_what_matches_once_and_in_order(
    library: tuple[Stores, list[Any]], scope: Scope, wanted: JobFilter, limit: int
) -> None:
    stores, everything = library
    expected = [row["id"] for row in everything if matches(row, scope, wanted)]
    seen: list[UUID] = []
    after: UUID | None = None
    while True:
        page = await stores.lookup.find(scope, wanted, limit=limit, after=after)
        assert len(page.rows) <= limit
        seen += [job.id for job in page.rows]
        after = page.next_after
        if after is None:
            break
        assert after == seen[-1]
    assert seen == expected


async def test_a_clock_that_is_hours_wrong_hides_nothing(stores: Stores, ledger_database: Database) -> None:
    async with connected(ledger_database.owner_url) as connection:
        for hours in (-23, 0, 23):
            await connection.execute(
                "INSERT INTO ferryman.jobs (id, tenant_id, user_id, type, created_at)"
                " VALUES (ferryman.uuid7($1::timestamptz + $2 * interval '1 h'), 'acme', 7, 'chat', $1)",
                EPOCH,
                hours,
            )
    wanted = JobFilter(created_after=EPOCH, created_before=EPOCH + timedelta(milliseconds=1))
    assert len((await stores.lookup.find(ACME, wanted, limit=9, after=None)).rows) == 3
    assert len((await stores.lookup.find(EVERYONE, wanted, limit=9, after=None)).rows) == 3
