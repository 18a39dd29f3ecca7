"""What may be read about jobs and dead letters, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from ferryman.auth.policy import Call
from ferryman.core.events import Mark
from ferryman.core.job import DeadLetterRecord, Job
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.failures import not_found
from ferryman.ports import AuditFilter, AuditPage, JobFilter, Ledger, LetterFilter, Page, StatsQuery


class Lookup:
    """Reads within the asker's scope. Single reads raise NotFoundError."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def job(self, asker: Asker, job_id: UUID) -> Job:
        """The job."""
        job = await self._ledger.jobs.get(asker.scope(Call.JOB_READ), job_id)
        if job is None:
            raise not_found("job")
        return job

    async def job_with_attempts(self, asker: Asker, job_id: UUID) -> tuple[Job, list[Mapping[str, object]]]:
        """The job and each of its attempts, oldest first."""
        found = await self._ledger.jobs.get_with_attempts(asker.scope(Call.JOB_READ), job_id)
        if found is None:
            raise not_found("job")
        return found

    async def jobs(self, asker: Asker, wanted: JobFilter, *, limit: int, after: UUID | None) -> Page[Job]:
        """Newest first."""
        return await self._ledger.jobs.find(asker.scope(Call.JOB_READ), wanted, limit=limit, after=after)

    async def history(
        self, asker: Asker, job_id: UUID, *, limit: int, after: UUID | None
    ) -> Page[Mapping[str, object]]:
        """The job's audit rows, oldest first. They outlive the job, so only nothing at all is not found."""
        scope = asker.scope(Call.JOB_READ)
        page = await self._ledger.jobs.history(scope, job_id, limit=limit, after=after)
        if not page.rows and after is None:
            await self.job(asker, job_id)
        return page

    async def audit(self, asker: Asker, wanted: AuditFilter, *, limit: int, after: Mark | None) -> AuditPage:
        """The audit of the tenant, newest first."""
        scope = asker.scope(Call.AUDIT_READ)
        assert scope.tenant_id is not None, "nobody reads the audit across tenants"
        return await self._ledger.audit.find(scope.tenant_id, wanted, limit=limit, after=after)

    async def stats(self, asker: Asker, query: StatsQuery) -> Mapping[str, object]:
        """Figures of the tenant."""
        return await self._ledger.reports.stats(asker.scope(Call.STATS_READ), query)

    async def letter(self, asker: Asker, letter_id: UUID) -> DeadLetterRecord:
        """The dead letter."""
        letter = await self._ledger.dead_letters.get(asker.scope(Call.LETTER_READ), letter_id)
        if letter is None:
            raise not_found("dead letter")
        return letter

    async def letters(
        self, asker: Asker, wanted: LetterFilter, *, limit: int, after: UUID | None
    ) -> Page[DeadLetterRecord]:
        """Newest first."""
        scope = asker.scope(Call.LETTER_READ)
        return await self._ledger.dead_letters.find(scope, wanted, limit=limit, after=after)
