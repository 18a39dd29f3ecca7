"""What a reader of events asked for, and what happened: do they match?"""

from __future__ import annotations

from msgspec import Struct

from ferryman.core.events import Mark
from ferryman.core.job import Job
from ferryman.core.status import JobStatus, is_waiting
from ferryman.ports import AuditEvent

_RETRYING_ACTIONS = frozenset({"retried", "snoozed"})


class JobChange(Struct, frozen=True, kw_only=True):
    """One event, and its job as it is now, None once that is pruned. Behind `mark` a reader goes on."""

    event: AuditEvent
    mark: Mark
    job: Job | None

    @property
    def status(self) -> JobStatus | None:
        """The status that the event left the job in, as users see it."""
        event, job = self.event, self.job
        if event.to_status is None:
            return None
        if event.to_status != JobStatus.PENDING:
            return JobStatus(event.to_status)
        if job is not None and is_waiting(job.status) and job.attempt == event.attempt:
            return job.status
        return JobStatus.RETRYING if event.action in _RETRYING_ACTIONS else JobStatus.PENDING


class EventFilter(Struct, frozen=True, kw_only=True):
    """As in the list of jobs: lists are alternatives, tags must all be there, all fields hold together."""

    statuses: frozenset[JobStatus] = frozenset()
    types: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    user_ids: frozenset[int] = frozenset()
    job_ids: frozenset[str] = frozenset()

    def takes(self, change: JobChange) -> bool:
        """Whether this change was asked for."""
        event, job = change.event, change.job
        return (
            (not self.types or event.type in self.types)
            and self.takes_queue(event.queue)
            and (not self.job_ids or str(event.job_id) in self.job_ids)
            and (not self.statuses or change.status in self.statuses)
            and (not self.tags or (job is not None and self.tags.issubset(job.tags)))
            and (not self.user_ids or (job is not None and job.user_id in self.user_ids))
        )

    def takes_queue(self, queue: str | None) -> bool:
        """Whether events of this queue were asked for."""
        return not self.queues or queue in self.queues
