"""Why a job is not running: what ledger and dispatcher know of it, gathered for `reasons`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from msgspec import Struct

from ferryman.auth.policy import Call
from ferryman.core.job import Job
from ferryman.core.status import is_waiting
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import not_found
from ferryman.lifecycle.reasons import Estimate, Facts, Reason, estimate, reasons
from ferryman.ports import Crew, Ledger, Scope, StatsQuery

MEASURED: Final = timedelta(minutes=1)


class Explanation(Struct, frozen=True, kw_only=True):
    """The job, why it waits, and when it may start. `source` says who knew its place; no reasons: it runs, or
    has ended.
    """

    job: Job
    reasons: Sequence[Reason] = ()
    estimate: Estimate | None = None
    source: Literal["redis", "ledger"] = "ledger"


class Explain:
    """Reads only. Nobody learns more of other tenants than the figures of queues show."""

    def __init__(self, ledger: Ledger, link: DispatcherLink) -> None:
        self._ledger = ledger
        self._link = link

    async def job(self, asker: Asker, job_id: UUID) -> Explanation:
        """Why this job is not running. Raises NotFoundError."""
        job = await self._ledger.jobs.get(asker.scope(Call.JOB_READ), job_id)
        if job is None:
            raise not_found("job")
        if not is_waiting(job.status):
            return Explanation(job=job)
        facts = await self._facts(job, sees_all=asker.scope(Call.FIGURES_READ).tenant_id is None)
        return Explanation(
            job=job,
            reasons=reasons(facts),
            estimate=estimate(facts),
            source="ledger" if facts.place is None else "redis",
        )

    async def _facts(self, job: Job, *, sees_all: bool) -> Facts:
        queue, crew, place = await asyncio.gather(
            self._ledger.queues.get(job.queue),
            self._ledger.reports.crew(job.queue, job.type),
            self._link.call(lambda dispatcher: dispatcher.place_of(job.queue, job.tenant_id, job.id)),
        )
        if queue is None:
            raise not_found("queue")
        return Facts(
            job=job,
            queue=queue,
            crew=crew,
            place=place,
            per_second=await self._per_second(job, crew),
            sees_all=sees_all,
        )

    async def _per_second(self, job: Job, crew: Crew) -> float:
        window = StatsQuery(start=crew.now - MEASURED, end=crew.now, queue=job.queue)
        stats = await self._ledger.reports.stats(Scope(tenant_id=job.tenant_id), window)
        return float(str(stats["throughputPerSecond"]))
