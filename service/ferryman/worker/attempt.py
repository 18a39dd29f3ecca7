"""One attempt on this worker: what was claimed, when it must end, and how it was told to stop."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from ferryman.core.job import Claimed, NewJob
from ferryman.core.retry import RetryPolicy
from ferryman.core.verdict import Interrupted, Outcome, Stopped
from ferryman.ports import Clock
from ferryman.worker.children import Child, parse_child
from ferryman.worker.context import ChildId, Written
from ferryman.worker.progress import Pending, ProgressWriter

if TYPE_CHECKING:
    from ferryman.worker.registry import Handler


class Stop(Enum):
    """Why an attempt was told to stop before its handler came back."""

    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Attempt:
    """An attempt from its claim until its end is recorded. It is also the desk of its context.

    Times are seconds of `Clock.monotonic`. `due` is when something must happen to it: its deadline, then the
    end of the grace for stopping. `closed`: its end is decided; `recorded`: nothing is left to write.
    `zombie`: it is closed, but its handler runs on.
    """

    __slots__ = (
        "beat_until",
        "children",
        "claimed",
        "clock",
        "closed",
        "deadline_s",
        "due",
        "handler",
        "offspring",
        "pending",
        "policy",
        "progress",
        "recorded",
        "started_s",
        "stop",
        "task",
        "timeout_ms",
        "zombie",
    )

    def __init__(
        self,
        claimed: Claimed,
        handler: Handler,
        policy: RetryPolicy,
        timeout_ms: int,
        clock: Clock,
        progress: ProgressWriter,
    ) -> None:
        self.claimed = claimed
        self.handler = handler
        self.policy = policy
        self.timeout_ms = timeout_ms
        self.clock = clock
        self.progress = progress
        self.pending: Pending | None = None
        self.children: list[Child] = []
        self.offspring: list[NewJob] = []
        self.task: asyncio.Task[Any] | None = None
        self.stop: Stop | None = None
        self.closed = False
        self.recorded = False
        self.zombie = False
        self.started_s = self.deadline_s = self.due = self.beat_until = math.inf

    def begin(self, *, grace_s: float) -> None:
        """The handler starts now. Its lease is not extended beyond the deadline and the grace."""
        self.started_s = self.clock.monotonic()
        self.due = self.deadline_s = self.started_s + self.timeout_ms / 1_000
        self.beat_until = self.deadline_s + grace_s

    @property
    def run_ms(self) -> int:
        """How long the handler has run, in milliseconds; 0 before it started."""
        return max(0, round((self.clock.monotonic() - self.started_s) * 1_000)) if self.has_begun else 0

    @property
    def has_begun(self) -> bool:
        return self.started_s is not math.inf

    def outcome_of_stop(self) -> Outcome | None:
        """What being stopped makes of the attempt, however its handler took it. None: it was not stopped, or
        lost its lease and there is nothing to record.
        """
        match self.stop:
            case Stop.TIMEOUT:
                return self.handler.judge(TimeoutError(f"it ran longer than its {self.timeout_ms} ms"))
            case Stop.CANCELLED:
                return Stopped()
            case Stop.INTERRUPTED:
                return Interrupted()
            case Stop.LOST | None:
                return None

    # ------------------------------------------------------------------------------- as its context's desk

    @property
    def cancelled(self) -> bool:
        return self.stop is not None

    @property
    def deadline(self) -> datetime:
        left = self.deadline_s - self.clock.monotonic()
        return self.clock.now() + timedelta(seconds=left if self.has_begun else self.timeout_ms / 1_000)

    def report(self, percent: float | None, note: str | None) -> Written:
        return self.progress.report(self, percent, note)

    def keep(self, cursor: bytes) -> Written:
        return self.progress.keep(self, cursor)

    def adopt(self, job_type: str, document: bytes, options: dict[str, object]) -> ChildId:
        child = parse_child(
            job_type,
            document,
            options,
            queue=self.claimed.queue,
            now_ms=int(self.clock.now().timestamp() * 1_000),
            count=len(self.children),
        )
        self.children.append(child)
        return child.id
