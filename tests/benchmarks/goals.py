"""What Ferryman wants to reach, as comparisons of figures of the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.benchmarks.measured import Key, Results, Spread
from tests.benchmarks.sizes import BULK
from tests.benchmarks.trials import backlog, drain, enqueue, pickup, recovery

PER_SECOND = "per_second"


@dataclass(frozen=True, slots=True)
class Goal:
    """`ours`, by `theirs` if that is given, shall be at least or at most `bound`."""

    text: str
    ours: Key
    relation: Literal["≥", "≤"]
    bound: float
    unit: str = ""
    theirs: Key | None = None

    def reached(self, results: Results) -> Spread | None:
        """The compared figure; None when it was not measured."""
        return results.ratio(self.ours, self.theirs) if self.theirs else results.spread(self.ours)

    def is_met(self, reached: Spread) -> bool:
        """By the median."""
        return reached.median >= self.bound if self.relation == "≥" else reached.median <= self.bound


def _rate(discipline: str, subject: str) -> Key:
    return discipline, subject, PER_SECOND


_MANY = _rate(enqueue.MANY, enqueue.REST)
_ONE_WORKER = _rate(drain.ONE, drain.FERRYMAN)

GOALS = (
    Goal("REST, 128 connections : bare INSERT", _MANY, "≥", 3, "×", _rate(enqueue.MANY, enqueue.BARE)),
    Goal("REST, 128 connections : bare group commit", _MANY, "≥", 0.65, "×",
         _rate(enqueue.MANY, enqueue.GROUP)),
    Goal("REST, 128 connections, p99", (enqueue.MANY, enqueue.REST, "p99_ms"), "≤", 30, "ms"),
    Goal(f"REST, bulk of {BULK} : pgqueuer's bulk call",
         _rate(enqueue.BULK_ONE, enqueue.REST), "≥", 0.7, "×", _rate(enqueue.BULK_ONE, enqueue.PGQUEUER)),
    Goal("drain, one worker : pgqueuer", _ONE_WORKER, "≥", 1.1, "×", _rate(drain.ONE, drain.PGQUEUER)),
    Goal("drain, one worker : arq tuned", _ONE_WORKER, "≥", 5, "×", _rate(drain.ONE, drain.ARQ_TUNED)),
    Goal("drain, one worker : arq by default", _ONE_WORKER, "≥", 40, "×", _rate(drain.ONE, drain.ARQ)),
    Goal("POST to handler, idle, p50", (pickup.IDLE, pickup.FERRYMAN, "p50_ms"), "≤", 3, "ms"),
    Goal("POST to handler, idle, p99", (pickup.IDLE, pickup.FERRYMAN, "p99_ms"), "≤", 10, "ms"),
    Goal("POST to handler, idle, p50 : pgqueuer", (pickup.IDLE, pickup.FERRYMAN, "p50_ms"), "≤", 1, "×",
         (pickup.IDLE, pickup.PGQUEUER, "p50_ms")),
    Goal("kill -9: every job runs again", (recovery.KILL, recovery.FERRYMAN, "seconds"), "≤", 10, "s"),
    Goal("FLUSHALL: dispatch resumes", (recovery.FLUSH, recovery.FERRYMAN, "pause_ms"), "≤", 5_000, "ms"),
    Goal("FLUSHALL: acknowledged jobs lost", (recovery.FLUSH, recovery.FERRYMAN, "lost"), "≤", 0, "jobs"),
    *(
        Goal(f"{what} p99, backlog : empty", (backlog.FULL, backlog.FERRYMAN, f"{what}_p99_ms"),
             "≤", 1.5, "×", (backlog.EMPTY, backlog.FERRYMAN, f"{what}_p99_ms"))
        for what in backlog.WATCHED
    ),
    Goal("Redis bytes per waiting job",
         (backlog.FULL, backlog.FERRYMAN, "redis_bytes_per_job"), "≤", 200, "B"),
    Goal("dispatches before a new tenant's first job",
         (backlog.FULL, backlog.FERRYMAN, "dispatches_before_newcomer"), "≤", 2, "jobs"),
)  # fmt: skip
