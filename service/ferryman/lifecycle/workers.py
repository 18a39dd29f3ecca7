"""Workers: who is there, asking one to drain, and word that one is gone."""

from __future__ import annotations

import asyncio
from typing import Final, assert_never

from ferryman.auth.policy import Call, Ownership
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import WorkerAliveError, not_found
from ferryman.ports import Ledger, WorkerRecord
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

# A worker beats every 2 s at the latest: one that has missed its beat by this much is not there.
MISSED_BEAT_MS: Final = 2_500


class Workers:
    """Workers are shared by all tenants. Changes raise NotFoundError for a worker that is not known."""

    def __init__(self, ledger: Ledger, link: DispatcherLink, metrics: Metrics) -> None:
        self._ledger = ledger
        self._link = link
        self._metrics = metrics

    async def all(self, asker: Asker) -> list[WorkerRecord]:
        """Every worker by id."""
        asker.actor(Call.WORKER_READ, Ownership.ALL)
        return await self._ledger.workers.all()

    async def set_drain(self, asker: Asker, worker_id: str, asked: bool) -> WorkerRecord:
        """Ask it to claim nothing more, or take it back. It hears of it with its next beat."""
        actor = asker.actor(Call.WORKER_DRAIN, Ownership.ALL)
        record = await self._ledger.workers.set_drain(worker_id, asked, actor)
        if record is None:
            raise not_found("worker")
        return record

    async def dismiss(self, asker: Asker, worker_id: str) -> None:
        """Its pod is gone: its leases end now, and its jobs wait again. Whether it still beats is known once
        its next beat is overdue; so long the answer is held. Raises WorkerAliveError.
        """
        actor = asker.actor(Call.WORKER_DISMISS, Ownership.ALL)
        silent_ms = await self._ledger.workers.silence_ms(worker_id)
        if silent_ms is not None and silent_ms < MISSED_BEAT_MS:
            await asyncio.sleep((MISSED_BEAT_MS - silent_ms + 1) / 1_000)
        result, positions = await self._ledger.workers.dismiss(worker_id, actor, silent_ms=MISSED_BEAT_MS)
        if positions:
            self._metrics.count(names.REAPED_TOTAL, len(positions))
            await self._link.push(positions)
        match result:
            case "gone":
                return
            case "alive":
                raise WorkerAliveError("the worker still beats: let it drain, or end its process first")
            case "not_found":
                raise not_found("worker")
            case _:
                assert_never(result)
