"""Submission: admitted, stored durably, pushed, and only then answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from ferryman.auth.policy import Call, Ownership
from ferryman.core.ids import uuid7
from ferryman.core.job import Actor, Inserted, NewJob, Position
from ferryman.core.priority import score
from ferryman.failpoints import reach
from ferryman.lifecycle.admission import Admission
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.entropy import Entropy
from ferryman.lifecycle.orders import Order, make_job
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.ports import Clock, Ledger, OutcomeUnknownError, QueueRecord
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics


class Submission:
    """Takes orders. Raises UnknownQueueError, QueueFullError, RejectedDataError, LedgerUnavailableError,
    OutcomeUnknownError and the policy's errors; once the ledger has said yes, nothing raises.
    """

    def __init__(
        self,
        ledger: Ledger,
        directory: QueueDirectory,
        admission: Admission,
        link: DispatcherLink,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._admission = admission
        self._link = link
        self._metrics = metrics
        self._clock = clock
        self._entropy = Entropy()

    async def submit(self, asker: Asker, order: Order, job_id: UUID) -> Inserted:
        """One job, stored together with those of other calls."""
        tenant_id, actor = _name(asker)
        record = await self._directory.get(order.queue)
        job = make_job(order, record.settings, asker, id=job_id, tenant_id=tenant_id)
        reserved = await self._admission.reserve(record, 1)
        reach("submit.before_insert")
        try:
            inserted = await self._ledger.jobs.insert(job, actor)
        except Exception as error:
            await self._unreserve({record.name: reserved}, error)
            raise
        reach("submit.after_insert")
        await self._push(record, [(job, inserted)], reserved)
        reach("submit.after_push")
        return inserted

    async def submit_all(
        self, asker: Asker, orders: Sequence[Order], job_ids: Sequence[UUID]
    ) -> list[Inserted]:
        """All of them or none, in order."""
        tenant_id, actor = _name(asker)
        records = {name: await self._directory.get(name) for name in {order.queue for order in orders}}
        jobs = [
            make_job(order, records[order.queue].settings, asker, id=job_id, tenant_id=tenant_id)
            for order, job_id in zip(orders, job_ids, strict=True)
        ]
        reserved = await self._reserve(records, Counter(order.queue for order in orders))
        reach("submit.before_insert")
        try:
            inserted = await self._ledger.jobs.insert_all(jobs, actor)
        except Exception as error:
            await self._unreserve(reserved, error)
            raise
        reach("submit.after_insert")
        pairs = list(zip(jobs, inserted, strict=True))
        for name, record in records.items():
            await self._push(record, [pair for pair in pairs if pair[0].queue == name], reserved[name])
        reach("submit.after_push")
        return inserted

    async def _reserve(self, records: Mapping[str, QueueRecord], wanted: Mapping[str, int]) -> dict[str, int]:
        reserved: dict[str, int] = {}
        for name, record in records.items():
            try:
                reserved[name] = await self._admission.reserve(record, wanted[name])
            except Exception as error:
                await self._unreserve(reserved, error)
                raise
        return reserved

    async def _unreserve(self, reserved: Mapping[str, int], error: Exception) -> None:
        """Give places back, unless the jobs may exist after all: then their places expire by themselves."""
        if isinstance(error, OutcomeUnknownError):
            return
        for name, places in reserved.items():
            await self._link.give_back(name, places)

    async def _push(
        self, record: QueueRecord, jobs: Sequence[tuple[NewJob, Inserted]], reserved: int
    ) -> None:
        aging_ms = record.settings.priority_aging_ms
        positions = [_position(job, inserted, aging_ms) for job, inserted in jobs]
        new = sum(not inserted.duplicate for _, inserted in jobs)
        self._metrics.count(names.SUBMITTED_TOTAL, new, queue=record.name)
        await self._link.push(positions, reserved=reserved)

    def new_id(self) -> UUID:
        """An id for a job that is to be submitted now."""
        return uuid7(int(self._clock.now().timestamp() * 1_000), self._entropy.take(10))


def _name(asker: Asker) -> tuple[str, Actor]:
    """For which tenant, and in what name."""
    tenant_id = asker.scope(Call.JOB_SUBMIT).tenant_id
    assert tenant_id is not None, "the policy grants submission in a tenant only"
    return tenant_id, asker.actor(Call.JOB_SUBMIT, Ownership.OWN)


def _position(job: NewJob, inserted: Inserted, aging_ms: int) -> Position:
    """Where the new job belongs; of a duplicate only the place that was kept for it goes back."""
    if inserted.duplicate:
        return Position(id=job.id, queue=job.queue, tenant_id=job.tenant_id, kind="gone")
    return Position(
        id=inserted.id,
        queue=inserted.queue,
        tenant_id=inserted.tenant_id,
        kind="waiting",
        score=score(ready_ms=inserted.ready_ms, priority=inserted.priority, aging_ms=aging_ms),
        due_in_ms=inserted.due_in_ms,
    )
