"""Attempts as workers know them: claim, beat, progress, settle; each write fenced by the claim's token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ferryman.core.job import ActorKind, Beat, BeatAnswer, Claimed, Position, Settlement
from ferryman.ledger.pool import Pools
from ferryman.ledger.settling import Ending, Settler
from ferryman.ledger.statements import statement

# From so many more candidates than are wanted, what other workers lock at the same time can be passed over.
_CANDIDATES_PER_CLAIM = 4


class Attempts:
    """`AttemptStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._settler = Settler(pools, ActorKind.WORKER)

    async def claim(
        self, worker_id: str, wanted: Sequence[tuple[UUID, UUID]], *, queue: str, types: Sequence[str]
    ) -> list[Claimed]:
        """As `AttemptStore.claim`. Raises LedgerUnavailableError."""
        if not wanted:
            return []
        ordered = sorted(wanted)
        rows = await self._pools.hot.fetch(
            statement("claim_jobs"),
            [job_id for job_id, _ in ordered],
            [token for _, token in ordered],
            worker_id,
            list(types),
            queue,
        )
        return [_claimed(row) for row in rows]

    async def claim_ready(
        self, worker_id: str, queue: str, tokens: Sequence[UUID], *, types: Sequence[str]
    ) -> list[Claimed]:
        """As `AttemptStore.claim_ready`. Raises LedgerUnavailableError."""
        candidates = await self._candidates(queue, len(tokens), types)
        claimed: list[Claimed] = []
        free = list(tokens)
        while candidates and free:
            wanted = list(zip(candidates, free, strict=False))
            claimed += await self.claim(worker_id, wanted, queue=queue, types=types)
            used = {one.token for one in claimed}
            free = [token for token in free if token not in used]
            candidates = candidates[len(wanted) :]
        return claimed

    async def isolate(self, job_id: UUID, token: UUID) -> bool:
        """As `AttemptStore.isolate`. Raises LedgerUnavailableError."""
        return await self._pools.hot.fetchrow(statement("isolate_attempt"), job_id, token) is not None

    async def report_progress(
        self, job_id: UUID, token: UUID, *, percent: float | None, note: str | None, cursor: bytes | None
    ) -> bool:
        """As `AttemptStore.report_progress`. Raises RejectedDataError, LedgerUnavailableError."""
        document = None if cursor is None else cursor.decode()
        row = await self._pools.hot.fetchrow(
            statement("report_progress"), job_id, token, percent, note, document
        )
        return row is not None

    async def settle(self, worker_id: str, settlements: Sequence[Settlement]) -> list[Position]:
        """As `AttemptStore.settle`. Raises LedgerUnavailableError; then call it again."""
        return await self._settler.settle(worker_id, [Ending(one) for one in settlements])

    async def beat(self, beat: Beat) -> BeatAnswer:
        """As `AttemptStore.beat`. Raises LedgerUnavailableError."""
        held = sorted(beat.held)
        rows = await self._pools.hot.fetch(
            statement("beat"),
            beat.worker_id,
            beat.pod,
            beat.queues,
            beat.types,
            beat.slots,
            beat.busy,
            beat.state,
            [job_id for job_id, _ in held],
            [token for _, token in held],
        )
        attempts = [row for row in rows if row["id"] is not None]
        return BeatAnswer(
            lost=frozenset(row["id"] for row in attempts if not row["holds"]),
            cancelled=frozenset(row["id"] for row in attempts if row["holds"] and row["cancel_requested"]),
            drain=any(row["drain_requested"] for row in rows),
        )

    async def leave(self, worker_id: str) -> None:
        """As `AttemptStore.leave`. Raises LedgerUnavailableError."""
        await self._pools.hot.fetch(statement("leave"), worker_id)

    async def _candidates(self, queue: str, count: int, types: Sequence[str]) -> list[UUID]:
        rows = await self._pools.hot.fetch(
            statement("pick_ready"), queue, count * _CANDIDATES_PER_CLAIM, list(types)
        )
        return [row["id"] for row in rows]


def _claimed(row: Any) -> Claimed:
    cursor = row["cursor"]
    return Claimed(
        id=row["id"],
        token=row["claim_token"],
        attempt=row["attempt"],
        tenant_id=row["tenant_id"],
        user_id=row["user_id"],
        type=row["type"],
        queue=row["queue_name"],
        priority=row["priority"],
        input=row["input_data"].encode(),
        failures=row["retry_count"],
        crashes=row["crashes"],
        max_retries=row["max_retries"],
        max_retries_given=row["max_retries_given"],
        retry_delay_ms=row["retry_delay_ms"],
        retry_delay_given=row["retry_delay_given"],
        visibility_timeout_ms=row["visibility_timeout_ms"],
        timeout_ms=row["timeout_ms"],
        tags=row["tags"],
        metadata=row["metadata"].encode(),
        cursor=None if cursor is None else cursor.encode(),
        correlation_id=row["correlation_id"],
        traceparent=row["traceparent"],
        unique_key=row["unique_key"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        wait_ms=row["wait_ms"],
    )
