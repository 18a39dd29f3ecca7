from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.retry import RetryPolicy
from ferryman.core.verdict import (
    CRASH_CAP,
    Cancel,
    Complete,
    DeadLetter,
    Failed,
    Interrupted,
    Lost,
    Reschedule,
    RetryAt,
    Snoozed,
    Stopped,
    Succeeded,
    crashes_after_loss,
    decide,
)

POLICY = RetryPolicy(jitter=False)


def failure(error_class: ErrorClass) -> Failure:
    return Failure(error_class=error_class, message="m", details={}, fingerprint="f")


def test_success_completes_with_the_output() -> None:
    assert decide(Succeeded(b"{}"), POLICY, failures=9, dice=0) == Complete(b"{}")


@given(
    st.sampled_from(ErrorClass), st.integers(0, 300), st.integers(0, 100), st.floats(0, 1, exclude_max=True)
)
def test_a_job_is_retried_exactly_as_often_as_its_class_allows(
    error_class: ErrorClass, failures: int, retries: int, dice: float
) -> None:
    policy = RetryPolicy(max_retries=retries)
    verdict = decide(Failed(failure(error_class)), policy, failures=failures, dice=dice)
    if failures < policy.allowed(error_class):
        assert isinstance(verdict, RetryAt)
    else:
        assert isinstance(verdict, DeadLetter)


def test_a_delay_asked_for_by_the_handler_is_taken_but_uses_up_a_retry() -> None:
    asked = Failed(failure(ErrorClass.TRANSIENT), retry_after_ms=123_456)
    assert decide(asked, POLICY, failures=0, dice=0) == RetryAt(123_456, asked.failure)
    assert decide(asked, POLICY, failures=3, dice=0) == DeadLetter(asked.failure)


@given(st.integers(-(10**15), 10**15))
def test_a_snooze_costs_nothing_and_is_bounded(delay_ms: int) -> None:
    verdict = decide(Snoozed(delay_ms), POLICY, failures=3, dice=0)
    assert isinstance(verdict, Reschedule)
    assert verdict.because == "snoozed"
    assert 0 <= verdict.delay_ms <= 31_536_000_000


def test_shutdown_gives_back_and_cancellation_cancels() -> None:
    assert decide(Interrupted(), POLICY, failures=3, dice=0) == Reschedule(0, "released")
    assert decide(Stopped(), POLICY, failures=3, dice=0) == Cancel()


def test_the_third_death_while_alone_condemns() -> None:
    first = decide(Lost(isolated=False, crashes=0, cancel_requested=False), POLICY, failures=0, dice=0)
    second = decide(Lost(isolated=False, crashes=1, cancel_requested=False), POLICY, failures=0, dice=0)
    third = decide(Lost(isolated=True, crashes=2, cancel_requested=False), POLICY, failures=0, dice=0)
    assert first == Reschedule(0, "reaped", 1)
    assert second == Reschedule(0, "reaped", 2)
    assert isinstance(third, DeadLetter)
    assert (third.failure.reason, third.failure.error_class) == ("poison", ErrorClass.SYSTEM)


@given(st.lists(st.booleans(), max_size=50))
def test_a_job_that_never_ran_alone_is_never_condemned(neighbours: list[bool]) -> None:
    crashes = 0
    for _ in neighbours:
        crashes = crashes_after_loss(crashes, isolated=False)
    assert crashes < CRASH_CAP


def test_a_lost_job_that_was_asked_to_stop_is_cancelled() -> None:
    assert (
        decide(Lost(isolated=True, crashes=2, cancel_requested=True), POLICY, failures=0, dice=0) == Cancel()
    )
