"""Events as readers get them: one JSON object a frame, whose `type` says what it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ferryman.api.installation_views import worker_view
from ferryman.api.queue_views import status_view
from ferryman.api.views import time, time_or_none
from ferryman.core.events import Mark
from ferryman.core.job import Job
from ferryman.core.status import JobStatus
from ferryman.lifecycle.event_filters import JobChange
from ferryman.lifecycle.figures import QueueStatus
from ferryman.lifecycle.outbox import Frame
from ferryman.ports import WorkerRecord

_LETTER_STATUS: Final = {"dead_lettered": "dead", "requeued": "requeued", "discarded": "discarded"}
_ENCODER: Final = msgspec.json.Encoder()


class FrameEncoder:
    """`Encoder` of the API."""

    def job(self, change: JobChange) -> Sequence[Frame]:
        """`job.changed`, and before it `dead_letter.changed` where there is a letter to it."""
        event = change.event
        common: dict[str, Any] = {
            "at": time(event.at),
            "jobId": str(event.job_id),
            "tenantId": event.tenant_id,
            "type": event.type,
            "queue": event.queue,
        }
        changed = {
            **common,
            "auditId": str(event.mark.id),
            "status": change.status,
            "action": event.action,
            **({} if change.job is None else _summary(change.job)),
            "attempt": event.attempt,
        }
        frames = [_frame("job.changed", changed, change.mark, is_of_job=True)]
        if (letter := _LETTER_STATUS.get(event.action)) is not None:
            job = change.job
            told = {
                **common,
                "status": letter,
                "errorClass": job and job.error_class,
                "fingerprint": job and job.fingerprint,
            }
            # Without a mark of its own: who is cut off between the two gets both again.
            frames.insert(0, _frame("dead_letter.changed", told, None, is_of_job=True))
        return frames

    def queue(self, status: QueueStatus) -> Frame:
        """`queue.status`, the tenant's share."""
        return _frame("queue.status", msgspec.to_builtins(status_view(status)), None)

    def worker(self, record: WorkerRecord, *, is_gone: bool) -> Frame:
        """`worker.changed`."""
        view = msgspec.to_builtins(worker_view(record))
        return _frame("worker.changed", view | ({"state": "gone"} if is_gone else {}), None)

    def note(self, kind: str, mark: Mark | None, **fields: object) -> Frame:
        """A frame about the stream itself: `ready`, `gap`, `coalesced`, `subscribed`."""
        return _frame(kind, dict(fields), mark)

    def coalesced(self, changed: int, mark: Mark | None) -> Frame:
        """So many frames of jobs were left out."""
        return self.note("coalesced", mark, changed=changed)


def _frame(kind: str, fields: dict[str, Any], mark: Mark | None, *, is_of_job: bool = False) -> Frame:
    document = {"event": kind} | ({"eventId": str(mark)} if mark is not None else {}) | fields
    return Frame(kind=kind, text=_ENCODER.encode(document).decode(), mark=mark, is_of_job=is_of_job)


def _summary(job: Job) -> dict[str, Any]:
    """What a row of a list shows."""
    error = None if job.error_class is None else {"class": job.error_class, "message": job.error_message}
    return {
        "userId": job.user_id,
        "priority": job.priority,
        "error": error,
        "retryCount": job.retry_count,
        "maxRetries": job.max_retries,
        "crashes": job.crashes,
        "cancelRequested": job.cancel_requested,
        "progress": {"percent": job.progress_percent, "note": job.progress_note},
        "tags": job.tags,
        "workerId": job.worker_id,
        "correlationId": job.correlation_id,
        "nextRetryAt": time(job.run_at) if job.status is JobStatus.RETRYING else None,
        "createdAt": time(job.created_at),
        "updatedAt": time(job.updated_at),
        "runAt": time(job.run_at),
        "startedAt": time_or_none(job.started_at),
        "completedAt": time_or_none(job.completed_at),
    }
