"""Workers as people and the operator see them."""

from __future__ import annotations

from typing import Any, Final

from ferryman.core.job import Actor, Position
from ferryman.ledger.pool import Pools
from ferryman.ledger.reports import WORKER_SILENT_MS
from ferryman.ledger.settling import Settler
from ferryman.ledger.statements import statement
from ferryman.ledger.upkeep import lost_ending
from ferryman.ledger.writes import who, write
from ferryman.ports import DismissResult, WorkerRecord

_BATCH: Final = 100


class Workers:
    """`WorkerStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def all(self) -> list[WorkerRecord]:
        """As `WorkerStore.all`."""
        return [
            _record(row) for row in await self._pools.read.fetch(statement("get_workers"), WORKER_SILENT_MS)
        ]

    async def set_drain(self, worker_id: str, asked: bool, actor: Actor) -> WorkerRecord | None:
        """As `WorkerStore.set_drain`."""
        rows = await write(self._pools, "drain_worker", worker_id, asked, WORKER_SILENT_MS, *who(actor))
        return _record(rows[0]) if rows else None

    async def silence_ms(self, worker_id: str) -> int | None:
        """As `WorkerStore.silence_ms`."""
        row = await self._pools.read.fetchrow(statement("worker_silence"), worker_id)
        return None if row is None else row["silent_ms"]

    async def dismiss(
        self, worker_id: str, actor: Actor, *, silent_ms: int
    ) -> tuple[DismissResult, list[Position]]:
        """As `WorkerStore.dismiss`."""
        positions: list[Position] = []
        settler = Settler(self._pools, actor.kind)
        while rows := await self._pools.hot.fetch(
            statement("judge_lost_workers"), [worker_id], silent_ms, _BATCH
        ):
            ended = await settler.settle(actor.id, [lost_ending(row) for row in rows])
            if not ended:
                break
            positions += ended
        gone = await write(self._pools, "dismiss_worker", worker_id, silent_ms, len(positions), *who(actor))
        if gone:
            return "gone", positions
        is_there = await self.silence_ms(worker_id) is not None
        return "alive" if is_there else "not_found", positions


def _record(row: Any) -> WorkerRecord:
    return WorkerRecord(**row)
