"""The live view of the demonstration: a bar that fills on a terminal, a line for each event everywhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ferryman.cli.terminal import console, draws, harmless, put
from ferryman.core.status import JobStatus

if TYPE_CHECKING:
    from rich.live import Live

    from ferryman.client import Job

_BAR: Final = 28
_TELL_EVERY_SECONDS: Final = 1.0
_OPEN: Final = (JobStatus.RUNNING, JobStatus.PENDING, JobStatus.RETRYING, JobStatus.SCHEDULED)
_ENDED: Final = (JobStatus.COMPLETED, JobStatus.DEAD_LETTER, JobStatus.CANCELLED, JobStatus.EXPIRED)


class View:
    """Shows jobs as they change. `live` is the drawn part, None where nothing can be drawn."""

    def __init__(self, total: int, live: Live | None) -> None:
        self._total = total
        self._live = live
        self._seen: dict[str, tuple[JobStatus, int]] = {}
        self._told_at = 0.0
        self._told = ""

    def show(self, jobs: Sequence[Job]) -> None:
        """What is new since the last call."""
        for job in reversed(jobs):
            before, now = self._seen.get(job.job_id), (job.status, job.attempt)
            self._seen[job.job_id] = now
            if before != now and (line := _event(job, before)):
                self._line(f"  {datetime.now().strftime('%H:%M:%S')}  {harmless(line)}")
        self._counts(Counter(job.status for job in jobs))

    def _line(self, text: str) -> None:
        if self._live is None:
            put(text)
        else:
            self._live.console.print(text, soft_wrap=True)

    def _counts(self, counts: Counter[JobStatus]) -> None:
        ended = sum(counts[status] for status in _ENDED)
        words = "  ".join(f"{status} {counts[status]}" for status in (*_ENDED, *_OPEN) if counts[status])
        if self._live is not None:
            filled = _BAR * ended // self._total
            self._live.update(f"  {'█' * filled}{'░' * (_BAR - filled)}  {ended:>2}/{self._total}  {words}")
            return
        now = time.monotonic()
        if words != self._told and (ended == self._total or now - self._told_at > _TELL_EVERY_SECONDS):
            put(f"  {ended:>2}/{self._total}  {words}")
            self._told, self._told_at = words, now


@contextmanager
def viewing(total: int) -> Iterator[View]:
    """A view for the block."""
    if not draws(sys.stdout):
        yield View(total, None)
        return
    from rich.live import Live

    with Live(console=console(), refresh_per_second=12) as live:
        yield View(total, live)


def _event(job: Job, before: tuple[JobStatus, int] | None) -> str:
    """What is worth a line; jobs that simply complete are not."""
    who = f"{job.type:<13} …{job.job_id[-6:]}"
    match job.status:
        case JobStatus.RETRYING:
            return f"{who}  attempt {job.attempt} failed: {_why(job)}, to be tried again"
        case JobStatus.DEAD_LETTER:
            return f"{who}  dead letter: {_why(job)}   (asked for)"
        case JobStatus.CANCELLED:
            return f"{who}  cancelled while it ran{_progress(job)}   (asked for)"
        case JobStatus.SCHEDULED if before is None:
            return f"{who}  scheduled for later   (asked for)"
        case JobStatus.COMPLETED if job.attempt > 1:
            return f"{who}  attempt {job.attempt} completed"
        case JobStatus.COMPLETED if job.metadata.get("demo") == "scheduled":
            return f"{who}  the scheduled job completed"
        case _:
            return ""


def _why(job: Job) -> str:
    return f"{job.error.error_class} {job.error.message}" if job.error else "no reason was given"


def _progress(job: Job) -> str:
    return f", at {job.progress.note}" if job.progress and job.progress.note else ""
