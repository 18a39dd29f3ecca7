"""arq functions and cron jobs as handlers: arq's rules for arguments, retries and hooks, on this engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol
from uuid import UUID

import arq
import msgspec

from ferryman.core.failures import ErrorClass, Failure, RetryAfter, Snooze
from ferryman.core.job import Claimed
from ferryman.core.queues import HandlerSettings
from ferryman.core.verdict import Failed, Outcome, Snoozed
from ferryman.telemetry import names
from ferryman.worker.arq_redis import JOB_TRY, parent, split_input
from ferryman.worker.context import JobContext
from ferryman.worker.registry import check_type
from ferryman.worker.results import failure_of
from ferryman.worker.threads import HandlerThreads

Hook = Callable[[dict[Any, Any]], Awaitable[Any]]

MAX_TIMEOUT_MS: Final = 86_400_000

log = logging.getLogger(__name__)


class ArqFunction(Protocol):
    """What `arq.worker.Function` and `arq.cron.CronJob` have in common."""

    name: str
    coroutine: Any
    timeout_s: float | None
    max_tries: int | None


class ArqWorker(Protocol):
    """What a handler reads of the arq worker that it belongs to."""

    ctx: dict[Any, Any]
    max_tries: int
    retry_jobs: bool
    on_job_start: Any
    on_job_end: Any
    after_job_end: Any


class ArqHandler:
    """One arq function. Only `Retry` (and a cancellation of its own making) is tried again; any other
    exception is final, as it is in arq.
    """

    has_after = True

    def __init__(self, function: ArqFunction, worker: ArqWorker, *, timeout_s: float | None) -> None:
        self.type = check_type(function.name)
        self._function = function
        self._worker = worker
        max_tries = worker.max_tries if function.max_tries is None else function.max_tries
        seconds = timeout_s if function.timeout_s is None else function.timeout_s
        self.settings = HandlerSettings(
            max_retries=max(0, max_tries - 1) if worker.retry_jobs else 0,
            timeout_ms=None if seconds is None else max(1, min(round(seconds * 1_000), MAX_TIMEOUT_MS)),
        )
        self._contexts: dict[UUID, dict[Any, Any]] = {}

    def start(
        self, context: JobContext, claimed: Claimed, threads: HandlerThreads
    ) -> Coroutine[Any, Any, object]:
        """See Handler."""
        args, kwargs = split_input(claimed.input)
        ctx = self._contexts[claimed.token] = {**self._worker.ctx, **_job_ctx(context)}
        return self._run(claimed, ctx, args, kwargs)

    def judge(self, error: BaseException) -> Outcome:
        """See Handler."""
        if isinstance(error, Snooze):
            return Snoozed(error.delay_ms)
        if isinstance(error, RetryAfter):
            return Failed(failure_of(error), error.delay_ms)
        if isinstance(error, arq.Retry) and self._worker.retry_jobs:
            return Failed(failure_of(error), error.defer_score or 0)
        if isinstance(error, asyncio.CancelledError) and self._worker.retry_jobs:
            return Failed(failure_of(error), 0)
        return Failed(_final(failure_of(error)))

    async def after(self, claimed: Claimed) -> None:
        """See Handler."""
        ctx = self._contexts.pop(claimed.token, None)
        if ctx is not None and self._worker.after_job_end is not None:
            await _heard(self._worker.after_job_end, ctx)

    async def _run(self, claimed: Claimed, ctx: dict[Any, Any], args: list[Any], kwargs: Any) -> object:
        parent.set(claimed)
        if self._worker.on_job_start is not None:
            await self._worker.on_job_start(ctx)
        try:
            return await self._function.coroutine(ctx, *args, **kwargs)
        finally:
            if self._worker.on_job_end is not None:
                await _heard(self._worker.on_job_end, ctx)


async def _heard(hook: Hook, ctx: dict[Any, Any]) -> None:
    """A hook that fails after the job must not change how the job ended."""
    try:
        await hook(ctx)
    except Exception:
        log.exception(names.HOOK_FAILED, extra={"job_id": ctx.get("job_id")})


def _job_ctx(context: JobContext) -> dict[str, Any]:
    first_try = context.metadata.get(JOB_TRY, 1)
    ready_ms = context.started_at.timestamp() * 1_000 - context.wait_ms
    return {
        "job_id": str(context.job_id),
        "job_try": context.attempt + first_try - 1 if isinstance(first_try, int) else context.attempt,
        "enqueue_time": context.created_at,
        "score": round(ready_ms),
    }


def _final(failure: Failure) -> Failure:
    if failure.error_class.is_permanent:
        return failure
    return msgspec.structs.replace(failure, error_class=ErrorClass.PERMANENT)
