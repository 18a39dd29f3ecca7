"""What the maintainer asks of the ledger: leadership, lost leases, expiry, what Redis should hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from ferryman.core.job import ActorKind, Position, Settlement
from ferryman.core.retry import RetryPolicy
from ferryman.core.verdict import Lost, crashes_after_loss, decide
from ferryman.ledger.pool import Pools
from ferryman.ledger.positions import read_positions, to_position
from ferryman.ledger.settling import Ending, Settler
from ferryman.ledger.statements import statement

ACTOR_ID: Final = "maintainer"
_TAKEN_MS: Final = 2_000
_FIRST_ID: Final = UUID(int=0)
_NO_POLICY: Final = RetryPolicy()  # what becomes of a lost attempt asks for none


class LedgerUpkeep:
    """`Upkeep` on PostgreSQL. Every method raises LedgerUnavailableError."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._settler = Settler(pools, ActorKind.MAINTAINER)

    async def lead(self, role: str, holder: str, *, for_ms: int) -> bool:
        """As `Upkeep.lead`."""
        return await self._pools.hot.fetchrow(statement("lead"), role, holder, for_ms) is not None

    async def resign(self, role: str, holder: str) -> None:
        """As `Upkeep.resign`."""
        await self._pools.hot.fetch(statement("resign"), role, holder)

    async def reap(self, lost: Sequence[tuple[UUID, UUID]]) -> list[Position]:
        """As `Upkeep.reap`."""
        ids = [job_id for job_id, _ in lost]
        rows = await self._pools.hot.fetch(statement("judge_overdue"), ids, [token for _, token in lost])
        await self._end(rows)
        return await read_positions(self._pools, ids)

    async def reap_expired(self, *, steady_ms: int, limit: int) -> list[Position]:
        """As `Upkeep.reap_expired`."""
        return await self._end(await self._pools.hot.fetch(statement("judge_expired"), steady_ms, limit))

    async def reap_lost_workers(self, *, silent_ms: int, limit: int) -> list[Position]:
        """As `Upkeep.reap_lost_workers`."""
        found = await self._pools.hot.fetch(statement("lost_workers"), silent_ms, limit)
        if not found:
            return []
        workers = [row["id"] for row in found]
        rows = await self._pools.hot.fetch(statement("judge_lost_workers"), workers, silent_ms, limit)
        positions = await self._end(rows)
        await self._pools.hot.fetch(statement("forget_workers"), workers, silent_ms)
        return positions

    async def expire(self, *, limit: int) -> list[Position]:
        """As `Upkeep.expire`."""
        rows = await self._pools.hot.fetch(statement("expire_jobs"), limit, ACTOR_ID, self._pools.shard)
        return [to_position(row) for row in rows]

    async def waiting(self, queue: str, *, after: UUID | None, limit: int) -> list[Position]:
        """As `Upkeep.waiting`."""
        rows = await self._pools.hot.fetch(statement("unfinished_page"), queue, after or _FIRST_ID, limit)
        return [to_position(row) for row in rows]

    async def recently_ready(self, queue: str, *, within_ms: int, limit: int) -> list[Position]:
        """As `Upkeep.recently_ready`."""
        rows = await self._pools.hot.fetch(statement("recently_ready"), queue, within_ms, limit)
        return [to_position(row) for row in rows]

    async def take_arrivals(self, *, limit: int) -> list[Position]:
        """As `Upkeep.take_arrivals`."""
        rows = await self._pools.hot.fetch(statement("take_arrivals"), limit, _TAKEN_MS)
        return await read_positions(self._pools, [row["job_id"] for row in rows]) if rows else []

    async def drop_arrivals(self, job_ids: Sequence[UUID]) -> None:
        """As `Upkeep.drop_arrivals`."""
        await self._pools.hot.fetch(statement("drop_arrivals"), list(job_ids))

    async def make_partitions(self) -> None:
        """As `Upkeep.make_partitions`."""
        await self._pools.hot.fetch(statement("make_partitions"))

    async def _end(self, rows: Sequence[Any]) -> list[Position]:
        """End lost attempts by the core's rule. Whoever is heard of in between keeps its lease: `seen`."""
        if not rows:
            return []
        return await self._settler.settle(ACTOR_ID, [lost_ending(row) for row in rows])


def lost_ending(row: Any) -> Ending:
    """What becomes of an attempt that a statement judged lost: the core's rule."""
    outcome = Lost(row["isolated"], row["crashes"], row["cancel_requested"])
    settlement = Settlement(
        id=row["id"],
        token=row["claim_token"],
        attempt=row["attempt"],
        verdict=decide(outcome, _NO_POLICY, failures=0, dice=0.0),
        run_ms=row["run_ms"],
        wait_ms=row["wait_ms"],
        max_retries=row["max_retries"],
    )
    crashes = crashes_after_loss(row["crashes"], isolated=row["isolated"])
    return Ending(settlement, seen=row["lease_until"], crashes=crashes)
