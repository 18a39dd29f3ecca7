"""Whatever is done in whatever order, the books balance: legal chains, one owner, statistics as the audit."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Beat, Claimed
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt, Verdict
from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.pool import Pools
from ferryman.ledger.postgres import PostgresLedger
from ferryman.ports import Scope
from tests.support.ledgers import TYPES, USER, assert_books, new_job, rows, settlement
from tests.support.servers import Database, database_on

SCOPE = Scope(tenant_id="acme")
FOREVER_MS = 10**9
FAILURE = Failure(error_class=ErrorClass.TRANSIENT, message="m", details={}, fingerprint="f")
VERDICTS: list[Verdict] = [
    Complete(b'{"ok":true}'),
    Complete(b'{"bad":"\\u0000"}'),
    RetryAt(0, FAILURE),
    RetryAt(60_000, FAILURE),
    DeadLetter(FAILURE),
    Cancel(),
    Reschedule(0, "released"),
    Reschedule(0, "snoozed"),
]

which = st.integers(0, 50)
steps = st.one_of(
    st.tuples(st.just("submit"), st.integers(0, 2), st.sampled_from([None, "k1", "k2"])),
    st.tuples(st.just("submit_all"), st.integers(1, 4), st.sampled_from([None, "k1"])),
    st.tuples(st.just("claim"), st.lists(which, min_size=1, max_size=4), st.none()),
    st.tuples(st.just("claim_ready"), st.integers(1, 3), st.none()),
    st.tuples(
        st.just("settle"), st.lists(st.tuples(which, st.integers(0, 7)), min_size=1, max_size=4), st.none()
    ),
    st.tuples(st.just("child"), which, st.none()),
    st.tuples(st.just("lose"), which, st.booleans()),
    st.tuples(st.just("reap"), which, st.none()),
    st.tuples(st.just("reap_expired"), st.integers(1, 3), st.none()),
    st.tuples(st.just("expire"), which, st.none()),
    st.tuples(st.just("cancel"), which, st.none()),
    st.tuples(st.just("retry"), which, st.none()),
    st.tuples(st.just("beat"), st.none(), st.none()),
)


class Run:
    """One sequence of steps over a database that keeps what earlier sequences left."""

    def __init__(self, ledger: PostgresLedger, url: str) -> None:
        self.ledger = ledger
        self.url = url
        self.jobs: list[UUID] = []
        self.claims: list[Claimed] = []  # stale ones, too

    async def step(self, name: str, first: Any, second: Any) -> None:
        await getattr(self, f"_{name}")(first, second)

    async def _submit(self, priority: int, key: str | None) -> None:
        self.jobs.append((await self.ledger.jobs.insert(new_job(priority=priority, unique_key=key), USER)).id)

    async def _submit_all(self, count: int, key: str | None) -> None:
        jobs = [new_job(unique_key=key, type=TYPES[number % 3]) for number in range(count)]
        self.jobs += [one.id for one in await self.ledger.jobs.insert_all(jobs, USER)]

    async def _claim(self, indexes: list[int], _: None) -> None:
        wanted = {self.jobs[index % len(self.jobs)]: uuid4() for index in indexes if self.jobs}
        self.claims += await self.ledger.attempts.claim(
            "w1", list(wanted.items()), queue="default", types=TYPES
        )

    async def _claim_ready(self, count: int, _: None) -> None:
        tokens = [uuid4() for _ in range(count)]
        self.claims += await self.ledger.attempts.claim_ready("w1", "default", tokens, types=TYPES)

    async def _settle(self, ends: list[tuple[int, int]], _: None) -> None:
        verdicts = {self.claims[n % len(self.claims)].token: VERDICTS[v] for n, v in ends if self.claims}
        by_token = {one.token: one for one in self.claims}
        batch = [settlement(by_token[token], verdict) for token, verdict in verdicts.items()]
        await self.ledger.attempts.settle("w1", batch)

    async def _child(self, index: int, _: None) -> None:
        if self.claims:
            child = new_job()
            end = settlement(self.claims[index % len(self.claims)], children=[child])
            if await self.ledger.attempts.settle("w1", [end]):
                self.jobs.append(child.id)

    async def _lose(self, index: int, isolated: bool) -> None:
        if self.claims:
            lost = self.claims[index % len(self.claims)]
            if isolated:
                await self.ledger.attempts.isolate(lost.id, lost.token)
            await rows(
                self.url,
                "UPDATE ferryman.jobs SET lease_until = now() - interval '1 ms' WHERE id = $1",
                lost.id,
            )

    async def _reap(self, index: int, _: None) -> None:
        if self.claims:
            one = self.claims[index % len(self.claims)]
            await self.ledger.upkeep.reap([(one.id, one.token)])

    async def _reap_expired(self, limit: int, _: None) -> None:
        await self.ledger.upkeep.reap_expired(steady_ms=FOREVER_MS, limit=limit)

    async def _expire(self, index: int, _: None) -> None:
        if self.jobs:
            late = self.jobs[index % len(self.jobs)]
            await rows(
                self.url, "UPDATE ferryman.jobs SET expires_at = now() - interval '1 ms' WHERE id = $1", late
            )
            await self.ledger.upkeep.expire(limit=100)

    async def _cancel(self, index: int, _: None) -> None:
        if self.jobs:
            await self.ledger.jobs.cancel(SCOPE, self.jobs[index % len(self.jobs)], USER)

    async def _retry(self, index: int, _: None) -> None:
        if self.jobs:
            await self.ledger.jobs.retry(SCOPE, self.jobs[index % len(self.jobs)], USER)

    async def _beat(self, _: None, __: None) -> None:
        held = list({one.id: (one.id, one.token) for one in self.claims}.values())
        answer = await self.ledger.attempts.beat(
            Beat(worker_id="w1", pod="p", queues=[], types=[], slots=1, busy=1, state="running", held=held)
        )
        running = {
            row["id"]: row["claim_token"]
            for row in await rows(
                self.url, "SELECT id, claim_token FROM ferryman.jobs WHERE status = 'running'"
            )
        }
        assert answer.lost == {job_id for job_id, token in held if running.get(job_id) != token}


@pytest.fixture(scope="module")
async def scene(
    postgres: EmbeddedPostgres, ledger_template: str
) -> AsyncIterator[tuple[PostgresLedger, Database]]:
    with database_on(postgres, ledger_template) as database:
        pools = Pools(database.service_url)
        yield PostgresLedger(pools), database
        await pools.close()


@settings(
    deadline=None,
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(steps, min_size=5, max_size=40))
async def test_the_books_balance(
    scene: tuple[PostgresLedger, Database], sequence: list[tuple[str, Any, Any]]
) -> None:
    ledger, database = scene
    run = Run(ledger, database.owner_url)
    for step in sequence:
        await run.step(*step)
    await assert_books(database.owner_url)
    letters = await rows(
        database.owner_url,
        "SELECT j.id FROM ferryman.jobs AS j FULL JOIN"
        " (SELECT original_job_id FROM ferryman.dead_letter_jobs WHERE status = 'dead') AS d"
        " ON d.original_job_id = j.id"
        " WHERE (j.status = 'dead_letter') IS DISTINCT FROM (d.original_job_id IS NOT NULL)",
    )
    assert letters == []
