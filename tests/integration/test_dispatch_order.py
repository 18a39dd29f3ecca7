"""Who is dispatched next: by priority with aging within a tenant, fairly across tenants, within the caps."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from redis.asyncio import Redis

from ferryman.core.job import Position
from ferryman.dispatch.dispatcher import RedisDispatcher
from ferryman.ports import Ended
from tests.support.dispatching import claim, ended, gone, look, opened, record, waiting, warm


@pytest.fixture
async def dispatcher(redis_url: str) -> AsyncIterator[RedisDispatcher]:
    async with opened(redis_url) as opened_one:
        yield opened_one


async def drain(dispatcher: RedisDispatcher, *, at_once: int = 1, run_ms: int = 10) -> list[UUID]:
    """Claim and end everything, `at_once` ids a step; answers the ids in their order."""
    order: list[UUID] = []
    claims: list[Ended] = []
    while True:
        step = await claim(dispatcher, at_once, ended=claims)
        if not step.claimed:
            return order
        order += [job_id for job_id, _ in step.claimed]
        claims = ended(step, run_ms)


def tenants_of(order: list[UUID], jobs: list[Position]) -> list[str]:
    by_id = {job.id: job.tenant_id for job in jobs}
    return [by_id[job_id] for job_id in order]


async def test_the_first_come_is_the_first_served(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher)
    jobs = [waiting(at_ms=n) for n in range(250)]
    await dispatcher.push(jobs[::-1])
    assert await drain(dispatcher, at_once=70) == [job.id for job in jobs]


async def test_a_priority_is_worth_its_aging_and_no_more(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher, aging_ms=1_000)
    old = waiting(at_ms=0, aging_ms=1_000)
    hurried = waiting(at_ms=2_500, priority=3, aging_ms=1_000)
    late = waiting(at_ms=3_500, priority=3, aging_ms=1_000)
    await dispatcher.push([late, hurried, old])
    assert await drain(dispatcher) == [hurried.id, old.id, late.id]


async def test_scores_of_strict_priority_stay_exact(dispatcher: RedisDispatcher) -> None:
    aging_ms = 100_000_000_000
    await warm(dispatcher, aging_ms=aging_ms)
    jobs = [waiting(at_ms=n, priority=p, aging_ms=aging_ms) for p in (100, 99, 1, 0) for n in range(3)]
    await dispatcher.push(jobs[::-1])
    assert await drain(dispatcher, at_once=5) == [job.id for job in jobs]


async def test_tenants_take_turns(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher)
    jobs = [waiting(tenant, n) for tenant in ("a", "b", "c") for n in range(20)]
    await dispatcher.push(jobs)
    turns = tenants_of(await drain(dispatcher), jobs)
    for start in range(0, 60, 3):
        assert sorted(turns[start : start + 3]) == ["a", "b", "c"]


async def test_one_batch_is_shared_as_single_claims_are(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher)
    jobs = [waiting(tenant, n) for tenant in ("a", "b", "c") for n in range(40)]
    await dispatcher.push(jobs)
    step = await claim(dispatcher, 60)
    assert Counter(tenants_of([i for i, _ in step.claimed], jobs)) == {"a": 20, "b": 20, "c": 20}


async def test_a_newcomer_starts_within_as_many_dispatches_as_there_are_tenants(
    dispatcher: RedisDispatcher,
) -> None:
    await warm(dispatcher)
    crowd = [waiting("a", n) for n in range(100_000)]
    await dispatcher.push(crowd)
    for _ in range(20):
        await claim(dispatcher, 50)
    newcomer = waiting("b", 500_000)
    await dispatcher.push([newcomer])
    step = await claim(dispatcher, 2)
    assert newcomer.id in [job_id for job_id, _ in step.claimed]


@pytest.mark.parametrize("others", [3, 30])
async def test_a_newcomer_among_several_does_not_wait_longer_than_a_round(
    dispatcher: RedisDispatcher, others: int
) -> None:
    await warm(dispatcher)
    await dispatcher.push([waiting(f"t{t:02}", n) for t in range(others) for n in range(40)])
    claims: list[Ended] = []
    for run_ms in (1, 30, 7, 250, 40):
        claims = ended(await claim(dispatcher, 11, ended=claims), run_ms)
    newcomer = waiting("zz", 500_000)
    await dispatcher.push([newcomer])
    started = [job_id for job_id, _ in (await claim(dispatcher, others + 1, ended=claims)).claimed]
    assert newcomer.id in started


async def test_who_was_away_has_saved_nothing(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher)
    jobs = [waiting("a", n) for n in range(100)] + [waiting("b", n) for n in range(100)]
    await dispatcher.push(jobs[:60])
    claims: list[Ended] = []
    for _ in range(40):
        claims = ended(await claim(dispatcher, 1, ended=claims), 1_000)
    await dispatcher.push(jobs[60:])
    turns = tenants_of(await drain(dispatcher, run_ms=1_000), jobs)
    assert abs(turns[:40].count("a") - 20) <= 2


async def test_worker_time_counts_not_jobs(dispatcher: RedisDispatcher) -> None:
    """Jobs of one tenant run ten times as long: it gets a tenth of the starts."""
    await warm(dispatcher)
    jobs = [waiting(tenant, n) for tenant in ("long", "short") for n in range(400)]
    await dispatcher.push(jobs)
    by_id = {job.id: job.tenant_id for job in jobs}
    starts: Counter[str] = Counter()
    claims: list[Ended] = []
    for _ in range(330):
        step = await claim(dispatcher, 1, ended=claims)
        claims = []
        for job_id, token in step.claimed:
            starts[by_id[job_id]] += 1
            claims.append(Ended(job_id, 1_000 if by_id[job_id] == "long" else 100, token))
    assert 25 <= starts["long"] <= 35
    assert starts["long"] + starts["short"] == 330


async def test_leases_that_end_without_a_word_are_not_free(dispatcher: RedisDispatcher) -> None:
    """All runs of one tenant are lost; it may not get more starts for that than the other one."""
    await warm(dispatcher)
    jobs = {job.id: job for job in (waiting(tenant, n) for tenant in ("lost", "well") for n in range(200))}
    await dispatcher.push(list(jobs.values()))
    starts: Counter[str] = Counter()
    claims: list[Ended] = []
    for _ in range(200):
        step = await claim(dispatcher, 1, ended=claims)
        claims = []
        for done in ended(step, 10):
            starts[jobs[done.job_id].tenant_id] += 1
            if jobs[done.job_id].tenant_id == "well":
                claims.append(done)
            else:
                await dispatcher.push([gone(jobs[done.job_id])])
    assert 80 <= starts["lost"] <= 130


async def test_priority_is_credit_across_tenants_and_starves_nobody(dispatcher: RedisDispatcher) -> None:
    """With an aging of 100 ms and jobs of 10 ms, a level is worth ten starts and then it is even."""
    await warm(dispatcher, aging_ms=100)
    plain = [waiting("plain", n, aging_ms=100) for n in range(40)]
    urgent = [waiting("urgent", 50 + n, priority=1, aging_ms=100) for n in range(40)]
    teach = [waiting("teacher", n - 100, aging_ms=100) for n in range(200)]
    await dispatcher.push(teach)
    await drain(dispatcher, run_ms=10)  # the typical run time is 10 ms now
    await dispatcher.push(plain + urgent)
    turns = tenants_of(await drain(dispatcher, run_ms=10), plain + urgent)
    assert turns[:9] == ["urgent"] * 9
    assert 13 <= turns[:30].count("urgent") <= 22
    assert turns[-1] == "plain"


async def test_a_tenant_at_its_cap_leaves_the_ring_and_comes_back(
    dispatcher: RedisDispatcher, redis_url: str
) -> None:
    await warm(dispatcher, tenant_max=2)
    jobs = [waiting(tenant, n) for tenant in ("a", "b") for n in range(5)]
    await dispatcher.push(jobs)
    first = await claim(dispatcher, 10)
    assert Counter(tenants_of([i for i, _ in first.claimed], jobs)) == {"a": 2, "b": 2}
    assert not first.more
    async with Redis.from_url(redis_url) as client:
        assert (await look(client)).ring == set()
        done = next(job for job in jobs if job.id == first.claimed[0][0])
        await dispatcher.push([gone(done)])
        assert (await look(client)).ring == {done.tenant_id}
    assert await dispatcher.wait_for_work(["q"], at_most_ms=1_000) == "q"
    second = await claim(dispatcher, 10)
    assert tenants_of([i for i, _ in second.claimed], jobs) == [done.tenant_id]


async def test_a_raised_cap_lets_waiting_tenants_in_at_once(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher, tenant_max=1)
    await dispatcher.push([waiting(tenant, n) for tenant in ("a", "b") for n in range(3)])
    assert len((await claim(dispatcher, 10)).claimed) == 2
    await dispatcher.configure(record(version=2, tenant_max=2))
    assert await dispatcher.wait_for_work(["q"], at_most_ms=1_000) == "q"
    assert len((await claim(dispatcher, 10)).claimed) == 2
    await dispatcher.configure(record(version=3))
    assert len((await claim(dispatcher, 10)).claimed) == 2


async def test_the_cap_of_the_queue_holds_claims_back(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher, max_concurrency=3)
    await dispatcher.push([waiting(tenant, n) for tenant in ("a", "b") for n in range(3)])
    first = await claim(dispatcher, 10)
    assert len(first.claimed) == 3
    assert not first.more
    assert (await claim(dispatcher, 10)).claimed == []
    second = await claim(dispatcher, 10, ended=ended(first)[:2])
    assert len(second.claimed) == 2


async def test_a_paused_queue_gives_nothing_and_goes_on_where_it_was(dispatcher: RedisDispatcher) -> None:
    await warm(dispatcher)
    job = waiting()
    await dispatcher.configure(record(version=2, paused=True))
    await dispatcher.push([job])
    step = await claim(dispatcher, 5)
    assert (step.paused, step.claimed, step.more) == (True, [], False)
    assert await dispatcher.wait_for_work(["q"], at_most_ms=10) is None
    await dispatcher.configure(record(version=1, paused=False))  # outdated news
    assert (await claim(dispatcher, 5)).paused
    await dispatcher.configure(record(version=3, paused=False))
    assert await dispatcher.wait_for_work(["q"], at_most_ms=1_000) == "q"
    assert [i for i, _ in (await claim(dispatcher, 5)).claimed] == [job.id]


async def test_tenants_that_were_served_are_forgotten(dispatcher: RedisDispatcher, redis_url: str) -> None:
    """A million tenants over the years must not stay in Redis."""
    await warm(dispatcher)
    for start in range(0, 400, 40):
        await dispatcher.push([waiting(f"t{n}") for n in range(start, start + 40)])
        await drain(dispatcher, at_once=40)
    async with Redis.from_url(redis_url) as client:
        seen = await look(client)
    assert len(seen.virtual) <= 80
    assert (seen.infl, seen.counts, seen.ready) == ({}, {}, {})
