"""`run_inline`: one attempt, judged as a worker judges it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from ferryman import (
    BusinessError,
    JobContext,
    Registry,
    RetryAfter,
    Snooze,
    TransientError,
    ValidationError,
)
from ferryman.core.failures import ErrorClass
from ferryman.core.queues import QueueSettings, TypeRetrySettings, TypeSettings
from ferryman.core.verdict import Complete, DeadLetter, Reschedule, RetryAt, Snoozed, Succeeded
from ferryman.testing import Progress, run_inline
from ferryman.worker.binding import RegistrationError

jobs = Registry()


@jobs.handler("sync")
def sync(ctx: JobContext, **rest: Any) -> dict[str, Any]:
    ctx.progress(10)
    return {"thread": threading.current_thread().name, "cancelled": ctx.cancelled, "rest": rest}


@jobs.handler("raises", max_retries=2, retry_delay_ms=100)
async def raises(ctx: JobContext, what: str) -> None:
    raise {
        "transient": TransientError("again"),
        "unknown": LookupError("what?"),
        "business": BusinessError("no", details={"limit": 3}),
        "later": RetryAfter(5_000),
        "snooze": Snooze(7_000),
        "exit": ValidationError("bad"),
    }[what]


@jobs.handler("slow")
async def slow(ctx: JobContext) -> None:
    await asyncio.Event().wait()


@jobs.handler("seen")
async def seen(ctx: JobContext) -> dict[str, Any]:
    await ctx.progress(note="half\x00way")
    before = ctx.cursor
    await ctx.save_cursor({"at": (before or {"at": 0})["at"] + 1})
    child = await ctx.enqueue("mail", {"to": "a"}, priority=5, unique_key="k")
    return {
        "child": str(child),
        "who": [ctx.tenant_id, ctx.user_id, ctx.queue, ctx.type, ctx.attempt],
        "tags": ctx.tags,
        "metadata": ctx.metadata,
        "left": ctx.deadline > ctx.started_at,
    }


async def test_a_sync_handler_runs_in_a_thread() -> None:
    run = await run_inline(jobs, "sync", {"a": 1}, cancelled=True)
    assert isinstance(run.outcome, Succeeded)
    assert isinstance(run.verdict, Complete)
    assert run.output is not None
    assert run.output["thread"] != threading.current_thread().name
    assert (run.output["cancelled"], run.output["rest"]) == (True, {"a": 1})
    assert run.progress == [Progress(10.0, None)]


async def test_the_context_tells_and_takes_everything() -> None:
    run = await run_inline(
        jobs,
        "seen",
        queue="emails",
        tenant_id="acme",
        user_id=9,
        attempt=3,
        cursor={"at": 4},
        tags=["eu"],
        metadata={"k": 1},
    )
    assert run.output is not None
    assert run.output["who"] == ["acme", 9, "emails", "seen", 3]
    assert (run.output["tags"], run.output["metadata"], run.output["left"]) == (["eu"], {"k": 1}, True)
    assert run.cursor == {"at": 5}
    assert "\x00" not in str(run.progress)
    (child,) = run.enqueued
    assert (str(child.id), child.type, child.queue) == (run.output["child"], "mail", "emails")
    assert (child.input, child.priority, child.unique_key) == ({"to": "a"}, 5, "k")


@pytest.mark.parametrize(
    ("what", "failures", "verdict", "delay_ms"),
    [
        ("transient", 0, RetryAt, 100),
        ("transient", 1, RetryAt, 200),
        ("transient", 2, DeadLetter, None),
        ("unknown", 0, RetryAt, 100),
        ("business", 0, DeadLetter, None),
        ("later", 0, RetryAt, 5_000),
        ("snooze", 2, Reschedule, 7_000),
        ("exit", 0, DeadLetter, None),
    ],
)
async def test_what_is_raised_is_judged(
    what: str, failures: int, verdict: type, delay_ms: int | None
) -> None:
    run = await run_inline(jobs, "raises", {"what": what}, failures=failures)
    assert isinstance(run.verdict, verdict)
    assert getattr(run.verdict, "delay_ms", None) == delay_ms
    assert run.output is None
    assert (run.failure is None) == isinstance(run.outcome, Snoozed)


async def test_the_queue_and_the_submission_have_their_word() -> None:
    settings = QueueSettings(types={"raises": TypeSettings(retry=TypeRetrySettings(initial_delay_ms=9))})
    run = await run_inline(jobs, "raises", {"what": "transient"}, settings=settings)
    assert isinstance(run.verdict, RetryAt)
    assert run.verdict.delay_ms == 9
    run = await run_inline(jobs, "raises", {"what": "transient"}, max_retries=0)
    assert isinstance(run.verdict, DeadLetter)


async def test_a_handler_that_is_too_slow_has_timed_out() -> None:
    run = await run_inline(jobs, "slow", timeout_ms=10)
    assert run.failure is not None
    assert run.failure.error_class is ErrorClass.TIMEOUT
    assert isinstance(run.verdict, RetryAt)
    assert run.verdict.delay_ms == 2_000


async def test_an_input_that_does_not_fit_is_judged_too() -> None:
    run = await run_inline(jobs, "raises", {"which": "one"})
    assert run.failure is not None
    assert run.failure.error_class is ErrorClass.VALIDATION


async def test_what_no_job_can_have_is_refused() -> None:
    with pytest.raises(RegistrationError, match="no handler is registered for the type 'none'"):
        await run_inline(jobs, "none")
    with pytest.raises(ValidationError, match="the input cannot be kept"):
        await run_inline(jobs, "sync", {"a": object()})
