"""Caps, rates and weights of tenants: each has its own, none of them costs another tenant a turn."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from redis.asyncio import Redis

from ferryman.core.queues import TenantSettings
from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import RedisDispatcher
from ferryman.embedded import EmbeddedRedis
from ferryman.ports import Ended, Step
from tests.support.dispatching import FAR_MS, claim, ended, look, opened, record, waiting, warm
from tests.support.servers import flushed

SLOW = TenantSettings(rate_per_second=1, burst=2)


@dataclass
class Queue:
    """The dispatcher, its Redis, and whose each job is."""

    dispatcher: RedisDispatcher
    client: Redis
    tenants: dict[UUID, str]

    async def fill(self, tenant: str, count: int, *, at_ms: int = 0) -> None:
        """So many more ready jobs of a tenant."""
        positions = [waiting(tenant, at_ms + number) for number in range(count)]
        self.tenants |= {position.id: tenant for position in positions}
        await self.dispatcher.push(positions)

    async def claim(self, count: int, ended: Sequence[Ended] = ()) -> Step:
        return await claim(self.dispatcher, count, ended=ended)

    def names(self, step: Step) -> list[str]:
        """Whose the claimed jobs are, in the order of dispatch."""
        return [self.tenants[job_id] for job_id, _ in step.claimed]

    async def later(self, tenant: str, ms: float) -> None:
        """As if so much time had passed for a limited tenant."""
        for key in ("lim", "rl"):
            await self.client.zincrby(f"{keys.prefix('q')}:{key}", -ms, tenant)

    async def move(self, tenant: str, ms: float) -> None:
        """As `later`, where the tenant is limited at all."""
        for key in ("lim", "rl"):
            if await self.client.zscore(f"{keys.prefix('q')}:{key}", tenant) is not None:
                await self.client.zincrby(f"{keys.prefix('q')}:{key}", -ms, tenant)

    async def now_ms(self) -> float:
        seconds, micros = cast("tuple[int, int]", await self.client.time())
        return seconds * 1_000 + micros / 1_000


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[Queue]:
    async with opened(redis_url) as dispatcher, Redis.from_url(redis_url) as client:
        yield Queue(dispatcher, client, {})


async def test_a_tenant_without_starts_left_waits_and_the_others_take_its_turns(queue: Queue) -> None:
    await warm(queue.dispatcher, tenants={"slow": SLOW})
    await queue.fill("slow", 10)
    await queue.fill("free", 10)
    step = await queue.claim(20)
    assert Counter(queue.names(step)) == {"slow": 2, "free": 10}
    assert not step.more
    assert step.due_in_ms is not None
    assert 0 < step.due_in_ms <= 1_000
    await queue.later("slow", 1_000)
    assert queue.names(await queue.claim(20)) == ["slow"]


@pytest.mark.parametrize(("is_refused", "starts"), [(True, 2), (False, 0)])
async def test_a_refused_claim_costs_neither_a_start_nor_worker_time(
    queue: Queue, is_refused: bool, starts: int
) -> None:
    await warm(queue.dispatcher, tenants={"slow": SLOW})
    await queue.fill("slow", 5)
    before = (await look(queue.client)).virtual["slow"]
    lost = [waiting("slow", job_id=job_id) for job_id, _ in (await queue.claim(5)).claimed]
    if is_refused:
        lost = [structs.replace(job, put_off="for_a_while", due_in_ms=FAR_MS) for job in lost]
    await queue.dispatcher.push(lost)
    assert ((await look(queue.client)).virtual["slow"] == before) == is_refused
    assert len((await queue.claim(5)).claimed) == starts


async def test_a_burst_comes_back_no_larger_than_it_was(queue: Queue) -> None:
    await warm(queue.dispatcher, tenants={"slow": SLOW})
    await queue.fill("slow", 10)
    assert len((await queue.claim(10)).claimed) == 2
    await queue.later("slow", 3_600_000)
    assert len((await queue.claim(10)).claimed) == 2


async def test_a_clock_that_ran_back_holds_nobody_for_longer_than_a_burst(queue: Queue) -> None:
    await warm(queue.dispatcher, tenants={"slow": SLOW})
    await queue.fill("slow", 10)
    await queue.claim(10)
    await queue.later("slow", -3_600_000)
    await queue.fill("slow", 1)
    step = await queue.claim(10)
    assert step.due_in_ms is not None
    assert step.due_in_ms <= 1_000
    await queue.later("slow", 1_000)
    assert len((await queue.claim(10)).claimed) == 1


async def test_a_push_wakes_a_worker_for_a_tenant_that_may_soon_go_on(queue: Queue) -> None:
    await warm(queue.dispatcher, rate=4, burst=1)
    await queue.fill("slow", 1)
    await queue.claim(1)
    assert await queue.dispatcher.wait_for_work(["q"], at_most_ms=10) is None
    await queue.fill("slow", 1)
    assert await queue.dispatcher.wait_for_work(["q"], at_most_ms=10) == "q"


async def test_new_limits_hold_from_the_next_step_on(queue: Queue) -> None:
    await warm(queue.dispatcher, tenants={"slow": SLOW})
    await queue.fill("slow", 40)
    await queue.claim(10)
    raised = {"slow": TenantSettings(rate_per_second=1, burst=7)}
    await queue.dispatcher.configure(record(version=2, tenants=raised))
    assert await queue.dispatcher.wait_for_work(["q"], at_most_ms=10) == "q"
    assert len((await queue.claim(10)).claimed) == 5
    await queue.dispatcher.configure(record(version=3))
    assert len((await queue.claim(10)).claimed) == 10
    await queue.dispatcher.configure(record(version=4, tenants={"slow": SLOW}))
    step = await queue.claim(10)  # the seven starts are not forgotten: a whole burst is owed
    assert (step.claimed, step.more) == ([], False)
    await queue.later("slow", 1_000)
    assert len((await queue.claim(10)).claimed) == 1


async def test_a_deleted_queue_leaves_no_key(queue: Queue) -> None:
    await warm(queue.dispatcher, tenants={"slow": SLOW})
    await queue.fill("slow", 10)
    await queue.claim(10)
    await queue.dispatcher.forget_queue("q")
    assert await queue.client.keys("*") == []


async def test_a_thousand_tenants_have_limits_of_their_own(queue: Queue) -> None:
    tenants = {f"t{number}": TenantSettings(max_concurrency=number % 3 + 1) for number in range(1_000)}
    await warm(queue.dispatcher, tenants=tenants)
    for tenant in ("t0", "t1", "t999", "other"):
        await queue.fill(tenant, 5)
    step = await queue.claim(20)
    assert Counter(queue.names(step)) == {"t0": 1, "t1": 2, "t999": 1, "other": 5}


async def test_a_tenant_at_its_cap_costs_the_others_no_dispatch(queue: Queue) -> None:
    await warm(queue.dispatcher, tenants={"capped": TenantSettings(max_concurrency=3)})
    await queue.fill("capped", 50)
    for name in "abc":
        await queue.fill(name, 20, at_ms=1_000)
    first = await queue.claim(12)
    assert Counter(queue.names(first)) == {"capped": 3, "a": 3, "b": 3, "c": 3}
    assert Counter(queue.names(await queue.claim(12))) == {"a": 4, "b": 4, "c": 4}
    freed = [one for one in ended(first) if queue.tenants[one.job_id] == "capped"][:1]
    assert Counter(queue.names(await queue.claim(12, freed)))["capped"] == 1


async def test_a_newcomer_starts_within_as_many_dispatches_as_there_are_tenants(queue: Queue) -> None:
    await warm(queue.dispatcher)
    await queue.fill("large", 100_000)
    await queue.fill("medium", 200)
    step = await queue.claim(100)
    for _ in range(3):
        step = await queue.claim(100, ended(step, run_ms=20))
    await queue.fill("small", 1, at_ms=10_000_000)
    later = await queue.claim(100, ended(step, run_ms=20))
    assert "small" in queue.names(later)[:3]


async def test_weights_hold_in_worker_time_whatever_the_jobs_lengths(queue: Queue) -> None:
    shares = {"one": 1, "two": 2, "four": 4}
    tenants = {name: TenantSettings(weight=share) for name, share in shares.items() if share > 1}
    await warm(queue.dispatcher, tenants=tenants)
    lengths = {"one": (5, 400), "two": (50, 60), "four": (1, 150)}
    for name in shares:
        await queue.fill(name, 4_000)
    spent = await _simulate(queue, slots=16, until_ms=20_000, lengths=lengths)
    whole = sum(spent.values())
    for name, share in shares.items():
        assert spent[name] / whole == pytest.approx(share / 7, rel=0.1)


async def _simulate(
    queue: Queue, *, slots: int, until_ms: int, lengths: dict[str, tuple[int, int]]
) -> Counter[str]:
    """Worker time by tenant, where every slot is always filled and time is made up."""
    dice, now, spent = random.Random(4), 0, Counter[str]()
    running: list[tuple[int, int, Ended]] = []
    order = itertools.count()
    done: list[Ended] = []
    while now < until_ms:
        step = await queue.claim(slots - len(running), done)
        for job_id, token in step.claimed:
            length = dice.randint(*lengths[queue.tenants[job_id]])
            heapq.heappush(running, (now + length, next(order), Ended(job_id, length, token)))
        assert len(running) == slots
        now, _, one = heapq.heappop(running)
        spent[queue.tenants[one.job_id]] += one.run_ms
        done = [one]
    return spent


tenant_names = st.sampled_from(["a", "b", "c"])
limits_of_one = st.builds(
    TenantSettings,
    max_concurrency=st.integers(0, 2),
    rate_per_second=st.sampled_from([0.0, 0.001, 50.0]),
    burst=st.integers(0, 3),
    weight=st.sampled_from([0.5, 1.0, 8.0]),
)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("fill"), tenant_names, st.integers(1, 4)),
        st.tuples(st.just("claim"), st.integers(1, 8)),
        st.tuples(st.just("limit"), st.dictionaries(tenant_names, limits_of_one)),
        st.tuples(st.just("later"), tenant_names, st.integers(-5_000, 5_000)),
    ),
    min_size=5,
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=changes)
async def test_whatever_the_limits_were_nobody_is_forgotten_once_they_are_lifted(
    redis_server: EmbeddedRedis, history: list[tuple[Any, ...]]
) -> None:
    url = flushed(redis_server)
    async with opened(url) as dispatcher, Redis.from_url(url) as client:
        queue, running, started = Queue(dispatcher, client, {}), list[Ended](), 0
        await warm(dispatcher)
        for version, (name, *arguments) in enumerate(history, start=2):
            if name == "fill":
                await queue.fill(*arguments)
            elif name == "limit":
                await dispatcher.configure(record(version=version, tenants=arguments[0]))
            elif name == "claim":
                step = await queue.claim(arguments[0], running[::2])
                started += len(step.claimed)
                running = running[1::2] + ended(step)
            else:
                await queue.move(*arguments)
        await dispatcher.configure(record(version=1_000))
        while (step := await queue.claim(100, running)).claimed:
            running = ended(step)
            started += len(running)
        assert started == len(queue.tenants)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rate=st.floats(1, 3_000),
    burst=st.integers(0, 20),
    wanted=st.lists(st.integers(1, 30), min_size=3, max_size=8),
    losses=st.sampled_from([0, 0, 1]),
)
async def test_starts_in_any_window_stay_within_the_rate(
    redis_server: EmbeddedRedis, rate: float, burst: int, wanted: list[int], losses: int
) -> None:
    url = flushed(redis_server)
    async with opened(url) as dispatcher, Redis.from_url(url) as client:
        queue = Queue(dispatcher, client, {})
        await warm(dispatcher, rate=rate, burst=burst)
        starts = await _starts(queue, wanted, losses=losses, rate=rate, burst=burst)
        allowed = max(1, burst) * (1 + losses)
        for first, last in itertools.combinations_with_replacement(range(len(starts)), 2):
            count = sum(n for _, _, n in starts[first : last + 1])
            window_ms = starts[last][1] - starts[first][0]
            assert count <= rate * window_ms / 1_000 + allowed + 1e-6


async def _starts(
    queue: Queue, wanted: Iterable[int], *, losses: int, rate: float, burst: int
) -> list[tuple[float, float, int]]:
    """Of each of many steps: Redis time before and after it, and how many jobs it started."""
    starts = []
    for round_ in range(12):
        await queue.fill("acme", 60)
        for count in wanted:
            before = await queue.now_ms()
            step = await queue.claim(count)
            starts.append((before, await queue.now_ms(), len(step.claimed)))
        if losses and round_ == 6:
            await queue.client.flushall()
            await warm(queue.dispatcher, rate=rate, burst=burst)
    return starts


async def test_a_limited_tenant_gets_all_that_its_rate_allows(queue: Queue) -> None:
    await warm(queue.dispatcher, rate=200, burst=1)
    await queue.fill("acme", 100)
    began, started = await queue.now_ms(), 0
    while started < 40:
        step = await queue.claim(10)
        started += len(step.claimed)
        assert step.due_in_ms is not None
        assert step.due_in_ms <= 5
    assert 195 <= await queue.now_ms() - began < 500
