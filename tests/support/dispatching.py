"""What tests of the dispatcher share: positions, settings, and a look at the keys of a queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from ferryman.core.job import Position
from ferryman.core.priority import DEFAULT_AGING_MS, score
from ferryman.core.queues import PerTenant, QueueSettings, TenantSettings
from ferryman.dispatch import keys
from ferryman.dispatch.dispatcher import RedisDispatcher, open_dispatcher
from ferryman.ports import Ended, QueueRecord, Step

START_MS = 1_700_000_000_000
FAR_MS = 3_600_000
LEASE_MS = 60_000


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisDispatcher]:
    """A dispatcher that is closed at the end."""
    dispatcher = open_dispatcher(url, **options)
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


def record(
    queue: str = "q",
    *,
    paused: bool = False,
    version: int = 1,
    max_concurrency: int = 0,
    tenant_max: int = 0,
    weight: float = 1,
    rate: float = 0,
    burst: int = 0,
    tenants: Mapping[str, TenantSettings] | None = None,
    aging_ms: int = DEFAULT_AGING_MS,
) -> QueueRecord:
    """A queue with settings that matter here."""
    settings = QueueSettings(
        max_concurrency=max_concurrency,
        priority_aging_ms=aging_ms,
        per_tenant=PerTenant(max_concurrency=tenant_max, weight=weight, rate_per_second=rate, burst=burst),
        tenants=dict(tenants or {}),
    )
    return QueueRecord(name=queue, settings=settings, paused=paused, version=version)


def waiting(
    tenant: str = "acme",
    at_ms: int = 0,
    *,
    queue: str = "q",
    priority: int = 0,
    aging_ms: int = DEFAULT_AGING_MS,
    due_in_ms: int = 0,
    retrying: bool = False,
    job_id: UUID | None = None,
) -> Position:
    """A job that became ready `at_ms` after a fixed start."""
    return Position(
        id=job_id or uuid4(),
        queue=queue,
        tenant_id=tenant,
        kind="waiting",
        score=score(ready_ms=START_MS + at_ms, priority=priority, aging_ms=aging_ms),
        due_in_ms=due_in_ms,
        retrying=retrying,
    )


def running(position: Position, token: UUID, *, lease_ms: int = LEASE_MS) -> Position:
    """The same job, running under `token`."""
    return Position(
        id=position.id,
        queue=position.queue,
        tenant_id=position.tenant_id,
        kind="running",
        lease_ms=lease_ms,
        token=token,
    )


def gone(position: Position) -> Position:
    """The same job, ended."""
    return Position(id=position.id, queue=position.queue, tenant_id=position.tenant_id, kind="gone")


async def pages(*given: Sequence[Position]) -> AsyncIterator[Sequence[Position]]:
    """Pages of a ledger."""
    for page in given:
        yield page


async def warm(dispatcher: RedisDispatcher, queue: str = "q", **settings: Any) -> QueueRecord:
    """Make an empty queue known."""
    made = record(queue, **settings)
    await dispatcher.rebuild(made, pages())
    return made


async def claim(
    dispatcher: RedisDispatcher,
    count: int,
    *,
    queue: str = "q",
    ended: Sequence[Ended] = (),
    lease_ms: int = LEASE_MS,
    types: Sequence[str] = (),
) -> Step:
    """One cycle of a worker with fresh tokens."""
    tokens = [uuid4() for _ in range(count)]
    return await dispatcher.step(queue, ended=ended, tokens=tokens, lease_ms=lease_ms, types=types)


def ended(step: Step, run_ms: int = 1) -> list[Ended]:
    """Everything that this step claimed has ended."""
    return [Ended(job_id, run_ms, token) for job_id, token in step.claimed]


@dataclass(frozen=True)
class Keys:
    """All that Redis holds of a queue."""

    ready: dict[str, list[tuple[UUID, float]]]  # by tenant, in order
    due: dict[UUID, tuple[str, str, float]]  # flag, tenant, score
    aside: dict[UUID, tuple[str, str, float]]  # type, tenant, score
    leases: dict[UUID, tuple[str, UUID]]  # tenant, token
    infl: dict[str, int]
    counts: dict[str, int]
    ring: set[str]
    virtual: dict[str, float]
    woken: bool


async def look(client: Any, queue: str = "q") -> Keys:
    """Read every key of the queue; fails where two that belong together differ."""
    prefix = keys.prefix(queue)
    ready = {}
    async for key in client.scan_iter(match=f"{prefix}:t:*"):
        entries = await client.zrange(key, 0, -1, withscores=True)
        ready[key.decode().removeprefix(f"{prefix}:t:")] = [(UUID(bytes=i), s) for i, s in entries]
    dates = await client.zrange(f"{prefix}:due", 0, -1)
    entries = await client.hgetall(f"{prefix}:job")
    aside = {member[-16:]: member[:-17].decode() for member in await client.zrange(f"{prefix}:aside", 0, -1)}
    assert {i for i, entry in entries.items() if entry[:1] == b"a"} == set(aside)
    assert {i for i, entry in entries.items() if entry[:1] != b"a"} == set(dates)
    leases = await client.zrange(f"{prefix}:lease", 0, -1)
    owners = await client.hgetall(f"{prefix}:own")
    assert set(leases) == set(owners)
    return Keys(
        ready=ready,
        due={UUID(bytes=i): _parse_due(entries[i]) for i in dates},
        aside={UUID(bytes=i): _parse_aside(entries[i], kind) for i, kind in aside.items()},
        leases={UUID(bytes=job_id): _parse_own(entry) for job_id, entry in owners.items()},
        infl={k.decode(): int(v) for k, v in (await client.hgetall(f"{prefix}:infl")).items()},
        counts={k.decode(): int(v) for k, v in (await client.hgetall(keys.count(queue))).items() if int(v)},
        ring={tenant.decode() for tenant in await client.zrange(f"{prefix}:ring", 0, -1)},
        virtual={t.decode(): v for t, v in await client.zrange(f"{prefix}:vt", 0, -1, withscores=True)},
        woken=bool(await client.exists(keys.wake(queue))),
    )


def _parse_due(entry: bytes) -> tuple[str, str, float]:
    number, _, tenant = entry[1:].decode().partition("|")
    return entry[:1].decode(), tenant, float(number)


def _parse_aside(entry: bytes, expected: str) -> tuple[str, str, float]:
    number, kind, tenant = entry[1:].decode().split("|", 2)
    assert kind == expected
    return kind, tenant, float(number)


def _parse_own(entry: bytes) -> tuple[str, UUID]:
    return entry[16:].decode(), UUID(bytes=entry[:16])
