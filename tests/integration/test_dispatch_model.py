"""Random histories against a small model: after every step Redis holds what the model says, counted right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from redis.asyncio import Redis

from ferryman.core.job import Position
from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import RedisDispatcher
from ferryman.embedded import EmbeddedRedis
from ferryman.ports import Ended, QueueFigures
from tests.support import dispatching
from tests.support.dispatching import FAR_MS, LEASE_MS, claim, gone, opened, pages, record, running, waiting
from tests.support.servers import flushed

TENANTS = ("acme", "bolt", "c" * 50)
JOBS = 12
TYPES = ("chat", "chat2", "c.hat")


@dataclass
class Model:
    """What Redis should hold. `in_flight`: a marker was popped and its worker has not stepped yet."""

    jobs: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(JOBS)])
    ready: dict[UUID, Position] = field(default_factory=dict)
    due: dict[UUID, Position] = field(default_factory=dict)
    aside: dict[UUID, Position] = field(default_factory=dict)
    leased: dict[UUID, UUID] = field(default_factory=dict)
    version: int = 1
    paused: bool = False
    max_concurrency: int = 0
    tenant_max: int = 0
    cold: bool = False
    in_flight: bool = False

    def tenant_of(self, job_id: UUID) -> str:
        return TENANTS[self.jobs.index(job_id) % len(TENANTS)]

    def take(self, position: Position) -> None:
        """The ledger's word."""
        for place in (self.ready, self.due, self.aside):
            place.pop(position.id, None)
        if position.kind == "running":
            assert position.token
            self.leased[position.id] = position.token
            return
        self.leased.pop(position.id, None)
        if position.put_off == "by_type":
            self.aside[position.id] = position
        elif position.kind == "waiting":
            (self.due if position.due_in_ms else self.ready)[position.id] = position

    def forget(self) -> None:
        for place in (self.ready, self.due, self.aside, self.leased):
            place.clear()
        self.version, self.paused, self.max_concurrency, self.tenant_max = 0, False, 0, 0
        self.cold = True

    def welcome(self, types: list[str], wanted: int) -> None:
        """A worker that knows these types wants so many."""
        for known in types:
            for job_id in sorted(i for i, p in self.aside.items() if p.type == known)[: max(0, wanted)]:
                self.ready[job_id] = structs.replace(self.aside.pop(job_id), put_off=None)
                wanted -= 1

    def infl(self) -> Counter[str]:
        return Counter(self.tenant_of(job_id) for job_id in self.leased)

    def in_order(self, tenant: str) -> list[tuple[UUID, float]]:
        mine = [p for p in self.ready.values() if p.tenant_id == tenant]
        return [(p.id, p.score) for p in sorted(mine, key=lambda p: (p.score, p.id.bytes))]

    def room(self, tenant: str) -> int:
        return max(0, self.tenant_max - self.infl()[tenant]) if self.tenant_max else JOBS

    def claimable(self, wanted: int) -> int:
        """How many of `wanted` a step must claim."""
        if self.cold or self.paused:
            return 0
        whole = max(0, self.max_concurrency - len(self.leased)) if self.max_concurrency else JOBS
        return min(wanted, whole, sum(min(len(self.in_order(t)), self.room(t)) for t in TENANTS))

    def record(self) -> Any:
        return record(
            paused=self.paused,
            version=self.version,
            max_concurrency=self.max_concurrency,
            tenant_max=self.tenant_max,
        )

    def positions(self) -> list[Position]:
        leased = [
            running(waiting(self.tenant_of(job_id), job_id=job_id), token)
            for job_id, token in self.leased.items()
        ]
        return [*self.ready.values(), *self.due.values(), *self.aside.values(), *leased]


class History:
    """Does one thing in Redis and in the model."""

    def __init__(self, dispatcher: RedisDispatcher, client: Redis) -> None:
        self.dispatcher = dispatcher
        self.client = client
        self.model = Model()

    async def push(self, numbers: list[int], kind: str, priority: int) -> None:
        """The same word on several jobs in one call; of a job that is named twice the last one counts."""
        positions = [self._position(number, kind, priority) for number in numbers]
        await self.dispatcher.push(positions)
        for position in positions:
            self.model.take(position)

    def _position(self, number: int, kind: str, priority: int) -> Position:
        job_id = self.model.jobs[number]
        position = waiting(
            self.model.tenant_of(job_id),
            number * 1_000,
            priority=priority,
            job_id=job_id,
            due_in_ms=FAR_MS if kind in ("scheduled", "retrying", "for_a_while") else 0,
            retrying=kind in ("retrying", "again"),
        )
        if kind in ("by_type", "for_a_while"):
            return structs.replace(position, type=TYPES[number % len(TYPES)], put_off=kind)
        if kind == "running":
            return running(position, self.model.leased.get(job_id) or uuid4())
        return gone(position) if kind == "gone" else position

    async def step(self, ended: list[int], wanted: int, false_token: bool, types: list[str]) -> None:
        model = self.model
        claims = []
        for job_id in (model.jobs[number] for number in ended):
            if job_id in model.leased:
                claims.append(Ended(job_id, 7, uuid4() if false_token else model.leased[job_id]))
                if not false_token:
                    del model.leased[job_id]
        model.welcome(types, wanted)
        expected = model.claimable(wanted)
        step = await claim(self.dispatcher, wanted, ended=[*claims, *claims], types=types)
        assert len(step.claimed) == expected
        assert (step.cold, step.paused) == (model.cold, model.paused)
        for job_id, token in step.claimed:
            assert model.in_order(model.tenant_of(job_id))[0][0] == job_id
            del model.ready[job_id]
            model.leased[job_id] = token
        assert not model.tenant_max or not step.claimed or self._within_caps(step.claimed)
        assert step.more == (model.claimable(1) > 0)
        model.in_flight = False

    def _within_caps(self, claimed: list[tuple[UUID, UUID]]) -> bool:
        running_now = self.model.infl()
        return all(running_now[self.model.tenant_of(i)] <= self.model.tenant_max for i, _ in claimed)

    async def beat(self, numbers: list[int], false_token: bool) -> None:
        model = self.model
        held = []
        for job_id in {model.jobs[number] for number in numbers}:
            known = any(job_id in place for place in (model.ready, model.due, model.aside, model.leased))
            token = uuid4() if false_token or not known else model.leased.get(job_id, uuid4())
            held.append((job_id, token, model.tenant_of(job_id), LEASE_MS))
            if not known:
                model.leased[job_id] = token
        assert await self.dispatcher.beat("q", held) == []

    async def reap(self, numbers: list[int]) -> None:
        past = {i for i in (self.model.jobs[n] for n in numbers) if i in self.model.leased}
        for job_id in past:
            await self.client.zadd(f"{keys.prefix('q')}:lease", {job_id.bytes: 1}, xx=True)
        named = await self.dispatcher.overdue("q", limit=100)
        assert dict(named) == {job_id: self.model.leased[job_id] for job_id in past}
        assert await self.dispatcher.overdue("q", limit=100) == []

    async def configure(self, paused: bool, max_concurrency: int, tenant_max: int, older: bool) -> None:
        model = self.model
        if not older:
            model.version += 1
            model.paused, model.max_concurrency, model.tenant_max = paused, max_concurrency, tenant_max
            await self.dispatcher.configure(model.record())
        elif model.version > 0:
            outdated = record(paused=paused, version=model.version - 1, tenant_max=tenant_max)
            await self.dispatcher.configure(outdated)

    async def flush(self, scripts_too: bool) -> None:
        await self.client.flushall()
        if scripts_too:
            await self.client.script_flush()
        self.model.forget()

    async def rebuild(self, lost: list[int]) -> None:
        """From a ledger in which some of the waiting jobs have ended meanwhile."""
        model = self.model
        for job_id in (model.jobs[number] for number in lost):
            model.ready.pop(job_id, None)
            model.due.pop(job_id, None)
            model.aside.pop(job_id, None)
        named = model.positions()
        assert await self.dispatcher.rebuild(model.record(), pages(named[:3], named[3:])) == len(named)
        model.cold = False

    async def pop(self) -> None:
        popped = await self.dispatcher.wait_for_work(["q"], at_most_ms=10)
        self.model.in_flight = self.model.in_flight or popped == "q"

    async def agree(self) -> None:
        """Redis holds what the model says."""
        model, seen = self.model, await dispatching.look(self.client)
        assert seen.ready == {t: order for t in TENANTS if (order := model.in_order(t))}
        assert seen.due == {
            p.id: ("p" if p.put_off else "r" if p.retrying else "s", p.tenant_id, p.score)
            for p in model.due.values()
        }
        assert seen.aside == {p.id: (p.type, p.tenant_id, p.score) for p in model.aside.values()}
        assert seen.leases == {i: (model.tenant_of(i), token) for i, token in model.leased.items()}
        assert seen.infl == dict(model.infl())
        assert seen.counts == dict(self._counts())
        may_run = {t for t in seen.ready if model.room(t) > 0}
        assert may_run <= seen.ring <= set(seen.ready)
        assert seen.ring <= set(seen.virtual)
        assert seen.woken or model.in_flight or not model.claimable(1)
        expected = None if model.cold else self._figures()
        assert await self.dispatcher.figures("q", tenant_id=None) == expected

    def _counts(self) -> Iterator[tuple[str, int]]:
        kinds = Counter[str]()
        for p in (*self.model.ready.values(), *self.model.aside.values()):
            kinds.update(("ready:", f"ready:{p.tenant_id}"))
        for p in self.model.due.values():
            kind = "ready" if p.put_off else "retrying" if p.retrying else "scheduled"
            kinds.update((f"{kind}:", f"{kind}:{p.tenant_id}"))
        return iter(kinds.items())

    def _figures(self) -> QueueFigures:
        retrying = sum(p.retrying for p in self.model.due.values())
        put_off = sum(p.put_off is not None for p in self.model.due.values())
        return QueueFigures(
            pending=len(self.model.ready) + len(self.model.aside) + put_off,
            scheduled=len(self.model.due) - retrying - put_off,
            retrying=retrying,
            running=len(self.model.leased),
        )


numbers = st.integers(0, JOBS - 1)
several = st.lists(numbers, max_size=JOBS)
kinds = st.sampled_from(
    ["ready", "ready", "again", "scheduled", "retrying", "for_a_while", "by_type", "running", "gone", "gone"]
)
known_types = st.lists(st.sampled_from(TYPES), unique=True)
# Name, arguments, and how often it is drawn beside the others.
EVENTS = (
    ("push", st.tuples(several, kinds, st.integers(0, 3)), 8),
    ("step", st.tuples(several, st.integers(0, 5), st.booleans(), known_types), 8),
    ("pop", st.tuples(), 3),
    ("beat", st.tuples(several, st.booleans()), 2),
    ("reap", st.tuples(several), 2),
    ("configure", st.tuples(st.booleans(), st.integers(0, 4), st.integers(0, 2), st.booleans()), 2),
    ("rebuild", st.tuples(several), 1),
    ("flush", st.tuples(st.booleans()), 1),
)
names = st.sampled_from([name for name, _, weight in EVENTS for _ in range(weight)])
arguments_of = {name: arguments for name, arguments, _ in EVENTS}
histories = st.lists(
    names.flatmap(lambda n: st.tuples(st.just(n), arguments_of[n])), min_size=10, max_size=40
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    max_concurrency=st.sampled_from([0, 0, 3]),
    tenant_max=st.sampled_from([0, 1, 2]),
    history=histories,
)
async def test_any_history_leaves_redis_as_the_model_says(
    redis_server: EmbeddedRedis, max_concurrency: int, tenant_max: int, history: list[tuple[str, Any]]
) -> None:
    url = flushed(redis_server)
    async with opened(url) as dispatcher, Redis.from_url(url) as client:
        world = History(dispatcher, client)
        world.model.max_concurrency, world.model.tenant_max = max_concurrency, tenant_max
        await world.rebuild([])
        await world.push(list(range(JOBS)), "ready", 0)
        for name, arguments in history:
            await getattr(world, name)(*arguments)
            await world.agree()
