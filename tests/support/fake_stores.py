"""A ledger and a dispatcher in memory: as much of the ports as the worker's parts are tried with alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from ferryman.core.job import Beat, BeatAnswer, Claimed, Position, Settlement
from ferryman.core.queues import QueueSettings
from ferryman.ports import (
    Dispatcher,
    DispatcherUnavailableError,
    Ended,
    Ledger,
    LedgerUnavailableError,
    QueueRecord,
    Step,
)


def make_claimed(**fields: Any) -> Claimed:
    """A claimed job of tenant acme, with these fields changed."""
    now = datetime.fromtimestamp(time.time(), UTC)
    defaults: dict[str, Any] = {
        "id": uuid4(), "token": uuid4(), "attempt": 1, "tenant_id": "acme", "user_id": 7, "type": "work",
        "queue": "default", "priority": 0, "input": b"{}", "failures": 0, "crashes": 0, "max_retries": 3,
        "max_retries_given": False, "retry_delay_ms": 1_000, "retry_delay_given": False,
        "visibility_timeout_ms": 30_000, "timeout_ms": None, "tags": ["a"], "metadata": b'{"k":1}',
        "cursor": None, "correlation_id": "corr-1", "traceparent": None, "unique_key": None,
        "created_at": now, "started_at": now, "wait_ms": 5,
    }  # fmt: skip
    return Claimed(**(defaults | fields))


def gone(job_id: UUID) -> Position:
    """Where an ended job is."""
    return Position(id=job_id, queue="default", tenant_id="acme", kind="gone")


class FakeLedger:
    """Answers what it was given, remembers what it was told. `is_away`: every call fails."""

    def __init__(self, **queues: QueueSettings) -> None:
        self.is_away = False
        self.records = queues or {"default": QueueSettings()}
        self.settled: list[Settlement] = []
        self.lost: set[UUID] = set()
        self.cancelled: set[UUID] = set()
        self.reports: list[tuple[UUID, float | None, str | None, bytes | None]] = []
        self.beats: list[Beat] = []
        self.isolated: list[UUID] = []
        self.claims: dict[UUID, Claimed] = {}
        self.ready: list[Claimed] = []
        self.places: dict[UUID, Position] = {}
        self.queues = SimpleNamespace(get=self._queue)
        self.attempts = self.jobs = self
        self.port = cast(Ledger, self)

    async def _queue(self, name: str) -> QueueRecord | None:
        self._look()
        settings = self.records.get(name)
        return QueueRecord(name=name, settings=settings, paused=False, version=1) if settings else None

    async def claim(
        self, worker_id: str, wanted: Sequence[tuple[UUID, UUID]], *, queue: str, types: Sequence[str]
    ) -> list[Claimed]:
        self._look()
        found = [(self.claims.pop(job_id), token) for job_id, token in wanted if job_id in self.claims]
        for claimed, token in found:
            claimed.token = token
        return [claimed for claimed, _ in found]

    async def claim_ready(
        self, worker_id: str, queue: str, tokens: Sequence[UUID], *, types: Sequence[str]
    ) -> list[Claimed]:
        self._look()
        taken, self.ready = self.ready[: len(tokens)], self.ready[len(tokens) :]
        return taken

    async def positions(self, job_ids: Sequence[UUID]) -> list[Position]:
        self._look()
        return [self.places.get(job_id) or gone(job_id) for job_id in job_ids]

    async def isolate(self, job_id: UUID, token: UUID) -> bool:
        self._look()
        self.isolated.append(job_id)
        return job_id not in self.lost

    async def report_progress(
        self, job_id: UUID, token: UUID, *, percent: float | None, note: str | None, cursor: bytes | None
    ) -> bool:
        self._look()
        self.reports.append((job_id, percent, note, cursor))
        return job_id not in self.lost

    async def settle(self, worker_id: str, settlements: Sequence[Settlement]) -> list[Position]:
        self._look()
        held = [one for one in settlements if one.id not in self.lost]
        self.settled += held
        return [self.places.get(one.id) or gone(one.id) for one in held]

    async def beat(self, beat: Beat) -> BeatAnswer:
        self._look()
        self.beats.append(beat)
        return BeatAnswer(lost=frozenset(self.lost), cancelled=frozenset(self.cancelled), drain=False)

    def _look(self) -> None:
        if self.is_away:
            raise LedgerUnavailableError("away")


class FakeDispatcher:
    """Suggests the ids it was given, and remembers what it was told."""

    def __init__(self) -> None:
        self.is_away = False
        self.is_cold = False
        self.ready: list[UUID] = []
        self.ended: list[Ended] = []
        self.pushed: list[Position] = []
        self.beats: list[tuple[UUID, UUID, str, int]] = []
        self.asked: list[UUID] = []
        self.port = cast(Dispatcher, self)

    async def step(
        self,
        queue: str,
        *,
        ended: Sequence[Ended],
        tokens: Sequence[UUID],
        lease_ms: int,
        types: Sequence[str] = (),
    ) -> Step:
        self._look()
        self.ended += ended
        taken, self.ready = self.ready[: len(tokens)], self.ready[len(tokens) :]
        pairs = list(zip(taken, tokens, strict=False))
        return Step(claimed=pairs, more=bool(self.ready), due_in_ms=None, paused=False, cold=self.is_cold)

    async def push(self, positions: Sequence[Position], *, reserved: int = 0) -> None:
        self._look()
        self.pushed += positions

    async def beat(self, queue: str, held: Sequence[tuple[UUID, UUID, str, int]]) -> list[UUID]:
        self._look()
        self.beats += held
        return self.asked

    def _look(self) -> None:
        if self.is_away:
            raise DispatcherUnavailableError("away")
