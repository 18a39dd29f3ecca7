"""Stand-ins for ledger and dispatcher where a test is about who asks whom, not about what they do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from uuid import UUID

from ferryman.auth.principal import Principal, Role
from ferryman.core.job import Actor, Inserted, NewJob, Position
from ferryman.core.queues import QueueSettings
from ferryman.core.rates import Taken, Toll, standing
from ferryman.core.status import JobStatus
from ferryman.lifecycle.asker import Asker
from ferryman.ports import (
    Dispatcher,
    DispatcherUnavailableError,
    KeyHolder,
    KeyState,
    Ledger,
    QueueFigures,
    QueueRecord,
)

T = TypeVar("T")

AT = datetime(2027, 1, 15, tzinfo=UTC)


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return AT

    def monotonic(self) -> float:
        return self.seconds


def asker(*roles: Role, user: int = 7) -> Asker:
    """A bearer of tenant acme; of role user when none is named."""
    principal = Principal(
        subject=str(user), tenant_id="acme", user_id=user, roles=frozenset(roles or (Role.USER,))
    )
    return Asker(principal=principal, correlation_id="corr-1")


def record(name: str = "default", **settings: Any) -> QueueRecord:
    """A queue with these settings."""
    return QueueRecord(name=name, settings=QueueSettings(**settings), paused=False, version=1)


@dataclass
class FakeDispatcher:
    """Grants `places` places, then no more; remembers what was pushed. `away`: nothing answers."""

    places: int = 1_000
    away: bool = False
    pushed: list[tuple[list[Position], int]] = field(default_factory=list)
    tolls: list[list[Toll]] = field(default_factory=list)

    async def admit(self, queue: str, count: int, *, limit: int) -> int:
        self._check()
        granted = min(count, self.places)
        self.places -= granted
        return granted

    async def take(self, tolls: Sequence[Toll]) -> list[Taken]:
        self._check()
        self.tolls.append(list(tolls))
        return [standing(toll, allowed=True, spent_us=0) for toll in tolls]

    async def push(self, positions: Sequence[Position], *, reserved: int = 0) -> None:
        self._check()
        self.pushed.append((list(positions), reserved))

    def _check(self) -> None:
        if self.away:
            raise DispatcherUnavailableError("Redis is away")

    def as_port(self) -> Dispatcher:
        return cast("Dispatcher", self)


@dataclass
class FakeLedger:
    """A ledger whose stores are this one object; each answer is a field that the test sets."""

    records: dict[str, QueueRecord] = field(default_factory=lambda: {"default": record()})
    waiting: int = 0
    insert_error: Exception | None = None
    duplicate: bool = False
    inserted: list[NewJob] = field(default_factory=list)
    final: dict[UUID, JobStatus] = field(default_factory=dict)
    key_state: Callable[[bytes, Sequence[UUID]], KeyState] | None = None
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    freed: list[KeyHolder] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    on_get: Callable[[], Awaitable[None]] | None = None

    @property
    def jobs(self) -> FakeLedger:
        return self

    queues = reports = keys = webhooks = events = jobs

    async def get(self, name: str) -> QueueRecord | None:
        self.asked.append(name)
        if self.on_get is not None:
            await self.on_get()
        return self.records.get(name)

    async def counts(self, queue: str, *, tenant_id: str | None) -> QueueFigures:
        self.asked.append(f"counts {queue}")
        return QueueFigures(pending=self.waiting, scheduled=0, retrying=0, running=0)

    async def statuses(self, job_ids: Sequence[UUID]) -> dict[UUID, JobStatus]:
        self.asked.append(f"statuses {len(job_ids)}")
        return {job_id: self.final[job_id] for job_id in job_ids if job_id in self.final}

    async def insert(self, job: NewJob, actor: Actor) -> Inserted:
        return (await self.insert_all([job], actor))[0]

    async def insert_all(self, jobs: Sequence[NewJob], actor: Actor) -> list[Inserted]:
        if self.insert_error is not None:
            raise self.insert_error
        self.inserted += jobs
        return [_inserted(job, self.duplicate) for job in jobs]

    async def take(self, holder: KeyHolder, *, body_hash: bytes, job_ids: Sequence[UUID]) -> KeyState:
        assert self.key_state is not None
        return self.key_state(body_hash, job_ids)

    async def answered(self, holder: KeyHolder, *, status: int, answer: bytes) -> None:
        self.answers.append((status, answer))

    async def free(self, holder: KeyHolder, *, tried_at: datetime) -> None:
        self.freed.append(holder)

    def as_port(self) -> Ledger:
        return cast("Ledger", self)


def _inserted(job: NewJob, duplicate: bool) -> Inserted:
    return Inserted(
        id=job.id,
        queue=job.queue,
        tenant_id=job.tenant_id,
        user_id=job.user_id,
        status=JobStatus.PENDING,
        priority=job.priority,
        run_at=AT,
        created_at=AT,
        ready_ms=1_000,
        due_in_ms=0,
        duplicate=duplicate,
    )
