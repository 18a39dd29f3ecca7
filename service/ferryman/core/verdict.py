"""`decide`: what becomes of an attempt, from how it ended. The only place where that is decided."""

from __future__ import annotations

from typing import assert_never

import msgspec

from ferryman.core.failures import ErrorClass, Failure, fingerprint
from ferryman.core.retry import MAX_DELAY_MS, RetryPolicy

CRASH_CAP = 3


# Outcomes: how an attempt ended.
class Succeeded(msgspec.Struct, frozen=True):
    """The handler returned; `output` is the JSON document of its result."""

    output: bytes


class Failed(msgspec.Struct, frozen=True):
    """The handler raised. `retry_after_ms` is set when it named the delay itself."""

    failure: Failure
    retry_after_ms: int | None = None


class Snoozed(msgspec.Struct, frozen=True):
    """The handler asked to be called again later."""

    delay_ms: int


class Stopped(msgspec.Struct, frozen=True):
    """The handler was stopped because cancellation of the job was asked for."""


class Interrupted(msgspec.Struct, frozen=True):
    """The worker is shutting down and gave the job back."""


class Lost(msgspec.Struct, frozen=True):
    """The lease ended without a word from its worker. `isolated`: the job ran alone on that worker."""

    isolated: bool
    crashes: int
    cancel_requested: bool


Outcome = Succeeded | Failed | Snoozed | Stopped | Interrupted | Lost


# Verdicts: what becomes of the job.
class Complete(msgspec.Struct, frozen=True):
    output: bytes


class RetryAt(msgspec.Struct, frozen=True):
    """Another attempt after `delay_ms`; uses up a retry."""

    delay_ms: int
    failure: Failure


class DeadLetter(msgspec.Struct, frozen=True):
    failure: Failure


class Cancel(msgspec.Struct, frozen=True):
    pass


class Reschedule(msgspec.Struct, frozen=True):
    """Back to waiting without using up a retry: snoozed, released at the front, or reaped."""

    delay_ms: int
    because: str
    crashes: int | None = None


Verdict = Complete | RetryAt | DeadLetter | Cancel | Reschedule


def decide(outcome: Outcome, policy: RetryPolicy, *, failures: int, dice: float) -> Verdict:
    """What becomes of a job whose attempt ended in `outcome`; `failures` counts those before it.

    `dice` is uniform in [0, 1) and only used for jitter.
    """
    match outcome:
        case Succeeded(output=output):
            return Complete(output)
        case Failed(failure=failure, retry_after_ms=asked):
            return _after_failure(failure, asked, policy, failures=failures, dice=dice)
        case Snoozed(delay_ms=delay_ms):
            return Reschedule(_bounded(delay_ms), "snoozed")
        case Stopped():
            return Cancel()
        case Interrupted():
            return Reschedule(0, "released")
        case Lost():
            return _after_loss(outcome)
        case _:
            assert_never(outcome)


def _after_failure(
    failure: Failure, asked_ms: int | None, policy: RetryPolicy, *, failures: int, dice: float
) -> Verdict:
    if failures >= policy.allowed(failure.error_class):
        return DeadLetter(failure)
    if asked_ms is not None:
        return RetryAt(_bounded(asked_ms), failure)
    return RetryAt(policy.delay_ms(failures + 1, failure.error_class, dice), failure)


def _after_loss(lost: Lost) -> Verdict:
    if lost.cancel_requested:
        return Cancel()
    crashes = crashes_after_loss(lost.crashes, isolated=lost.isolated)
    if crashes >= CRASH_CAP:
        return DeadLetter(poison())
    return Reschedule(0, "reaped", crashes)


def crashes_after_loss(crashes: int, *, isolated: bool) -> int:
    """The crash count after one more lost lease.

    From its second crash on a job runs alone on its worker, and only a death while alone counts on: a
    suspect that never got to start beside its neighbours is not condemned for them.
    """
    return crashes if crashes >= CRASH_CAP - 1 and not isolated else crashes + 1


def poison() -> Failure:
    """The failure of a job that took its worker down `CRASH_CAP` times, the last time while alone."""
    message = f"its worker died {CRASH_CAP} times while running it, the last time with nothing beside it"
    return Failure(
        error_class=ErrorClass.SYSTEM,
        message=message,
        details={},
        fingerprint=fingerprint(ErrorClass.SYSTEM, "poison", ""),
        reason="poison",
    )


def _bounded(delay_ms: int) -> int:
    return max(0, min(delay_ms, MAX_DELAY_MS))
