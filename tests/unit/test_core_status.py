from datetime import UTC, datetime, timedelta

import pytest

from ferryman.core.status import (
    STATS_OUTCOMES,
    STORED_STATUSES,
    TRANSITIONS,
    Action,
    JobStatus,
    is_final,
    is_legal,
    is_waiting,
    visible_status,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_every_action_has_its_transitions_between_stored_statuses() -> None:
    assert set(TRANSITIONS) == set(Action)
    for pairs in TRANSITIONS.values():
        assert pairs
        for before, after in pairs:
            assert {before, after} - {None} <= STORED_STATUSES


def test_only_a_requeue_and_a_prune_leave_a_final_status() -> None:
    leaving = {
        action
        for action, pairs in TRANSITIONS.items()
        for before, after in pairs
        if before is not None and is_final(before) and after is not before
    }
    assert leaving == {Action.REQUEUED, Action.PRUNED}


def test_from_every_status_an_end_can_be_reached() -> None:
    reachable: set[JobStatus | None] = {None} | {s for s in STORED_STATUSES if is_final(s)}
    steps = {pair for pairs in TRANSITIONS.values() for pair in pairs}
    for _ in STORED_STATUSES:
        reachable |= {before for before, after in steps if after in reachable}
    assert reachable >= STORED_STATUSES


@pytest.mark.parametrize("status", JobStatus)
def test_a_status_is_waiting_running_or_final(status: JobStatus) -> None:
    assert is_waiting(status) + is_final(status) + (status is JobStatus.RUNNING) == 1


@pytest.mark.parametrize(
    ("stored", "attempt", "ahead", "seen"),
    [
        (JobStatus.PENDING, 0, 1, JobStatus.SCHEDULED),
        (JobStatus.PENDING, 1, 1, JobStatus.RETRYING),
        (JobStatus.PENDING, 0, 0, JobStatus.PENDING),
        (JobStatus.PENDING, 7, -1, JobStatus.PENDING),
        (JobStatus.RUNNING, 1, 1, JobStatus.RUNNING),
        (JobStatus.COMPLETED, 1, 1, JobStatus.COMPLETED),
    ],
)
def test_time_alone_tells_scheduled_and_retrying_from_pending(
    stored: JobStatus, attempt: int, ahead: int, seen: JobStatus
) -> None:
    run_at = NOW + timedelta(milliseconds=ahead)
    assert visible_status(stored, attempt=attempt, run_at=run_at, now=NOW) is seen


def test_stats_count_each_action_that_begins_or_ends_something() -> None:
    counted = set(STATS_OUTCOMES)
    assert counted == set(Action) - {
        Action.CLAIMED,
        Action.CANCEL_REQUESTED,
        Action.HURRIED,
        Action.DISCARDED,
        Action.PRUNED,
    }
    assert STATS_OUTCOMES[Action.DEAD_LETTERED] == "dead_letter"


def test_legality_is_the_table() -> None:
    assert is_legal(Action.SUBMITTED, None, JobStatus.PENDING)
    assert not is_legal(Action.COMPLETED, JobStatus.PENDING, JobStatus.COMPLETED)
    assert not is_legal(Action.CLAIMED, JobStatus.COMPLETED, JobStatus.RUNNING)
