"""The life of a job: its statuses, the actions that move it, and the one table that says which are legal."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, assert_never


class JobStatus(StrEnum):
    """A status as users see it, spelt the same in code, column, JSON and metric."""

    SCHEDULED = "scheduled"
    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    DEAD_LETTER = "dead_letter"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Action(StrEnum):
    """What happened to a job. Each is the `action` of one audit row, written with the change itself."""

    SUBMITTED = "submitted"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    RETRIED = "retried"
    SNOOZED = "snoozed"
    RELEASED = "released"
    REAPED = "reaped"
    DEAD_LETTERED = "dead_lettered"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    HURRIED = "hurried"
    REQUEUED = "requeued"
    DISCARDED = "discarded"
    PRUNED = "pruned"


_PENDING, _RUNNING = JobStatus.PENDING, JobStatus.RUNNING

# Stored statuses only: `scheduled` and `retrying` are pending rows whose run_at lies ahead.
TRANSITIONS: Final[dict[Action, frozenset[tuple[JobStatus | None, JobStatus | None]]]] = {
    Action.SUBMITTED: frozenset({(None, _PENDING)}),
    Action.CLAIMED: frozenset({(_PENDING, _RUNNING)}),
    Action.COMPLETED: frozenset({(_RUNNING, JobStatus.COMPLETED)}),
    Action.RETRIED: frozenset({(_RUNNING, _PENDING)}),
    Action.SNOOZED: frozenset({(_RUNNING, _PENDING)}),
    Action.RELEASED: frozenset({(_RUNNING, _PENDING)}),
    Action.REAPED: frozenset({(_RUNNING, _PENDING)}),
    Action.DEAD_LETTERED: frozenset({(_RUNNING, JobStatus.DEAD_LETTER)}),
    Action.CANCEL_REQUESTED: frozenset({(_RUNNING, _RUNNING)}),
    Action.CANCELLED: frozenset({(_PENDING, JobStatus.CANCELLED), (_RUNNING, JobStatus.CANCELLED)}),
    Action.EXPIRED: frozenset({(_PENDING, JobStatus.EXPIRED)}),
    Action.HURRIED: frozenset({(_PENDING, _PENDING)}),
    Action.REQUEUED: frozenset({(JobStatus.DEAD_LETTER, _PENDING)}),
    Action.DISCARDED: frozenset({(JobStatus.DEAD_LETTER, JobStatus.DEAD_LETTER)}),
    Action.PRUNED: frozenset(
        (final, None)
        for final in (JobStatus.COMPLETED, JobStatus.DEAD_LETTER, JobStatus.CANCELLED, JobStatus.EXPIRED)
    ),
}

# The outcome under which `job_stats` counts an action; an action that is not listed is not counted.
STATS_OUTCOMES: Final[dict[Action, str]] = {
    Action.SUBMITTED: "submitted",
    Action.COMPLETED: "completed",
    Action.RETRIED: "retried",
    Action.SNOOZED: "released",
    Action.RELEASED: "released",
    Action.REAPED: "released",
    Action.DEAD_LETTERED: "dead_letter",
    Action.CANCELLED: "cancelled",
    Action.EXPIRED: "expired",
    Action.REQUEUED: "requeued",
}

STORED_STATUSES: Final = frozenset(JobStatus) - {JobStatus.SCHEDULED, JobStatus.RETRYING}


def is_final(status: JobStatus) -> bool:
    """Whether a job in this status has ended. A dead letter has, although it may be requeued."""
    match status:
        case JobStatus.COMPLETED | JobStatus.DEAD_LETTER | JobStatus.CANCELLED | JobStatus.EXPIRED:
            return True
        case JobStatus.SCHEDULED | JobStatus.PENDING | JobStatus.RUNNING | JobStatus.RETRYING:
            return False
        case _:
            assert_never(status)


def is_waiting(status: JobStatus) -> bool:
    """Whether a job in this status still waits for its (next) attempt."""
    return status in (JobStatus.SCHEDULED, JobStatus.PENDING, JobStatus.RETRYING)


def visible_status(stored: JobStatus, *, attempt: int, run_at: datetime, now: datetime) -> JobStatus:
    """The status users see: a pending row that is not due yet is `scheduled` or, once tried, `retrying`."""
    if stored is not JobStatus.PENDING or run_at <= now:
        return stored
    return JobStatus.RETRYING if attempt else JobStatus.SCHEDULED


def is_legal(action: Action, before: JobStatus | None, after: JobStatus | None) -> bool:
    """Whether the transition table allows this action between two stored statuses (None: no row)."""
    return (before, after) in TRANSITIONS[action]
