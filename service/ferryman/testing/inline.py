"""One attempt of a handler in the test's own event loop: no servers, no worker, no retries."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from ferryman.core.failures import Failure
from ferryman.core.ids import uuid7
from ferryman.core.job import Claimed
from ferryman.core.queues import QueueSettings, retry_policy, timeout_ms
from ferryman.core.verdict import Complete, DeadLetter, Outcome, RetryAt, Succeeded, Verdict, decide
from ferryman.worker.binding import RegistrationError
from ferryman.worker.children import Child, parse_child
from ferryman.worker.context import MAX_INPUT_BYTES, ChildId, JobContext
from ferryman.worker.registry import FunctionHandler, Registry
from ferryman.worker.results import checked, document_of
from ferryman.worker.threads import HandlerThreads

_MAX_METADATA_BYTES = 8_192


class Progress(Struct, frozen=True):
    """What the handler said of its progress in one call."""

    percent: float | None
    note: str | None


class Enqueued(Struct, frozen=True, kw_only=True):
    """A job that the handler submitted. In a pipeline it is stored if and only if the handler completes."""

    id: UUID
    type: str
    queue: str
    input: dict[str, Any]
    priority: int
    delay_ms: int
    unique_key: str | None


class InlineRun(Struct, frozen=True, kw_only=True):
    """How one attempt went. `outcome`: how the handler ended; `verdict`: what becomes of the job then."""

    outcome: Outcome
    verdict: Verdict
    progress: list[Progress]
    enqueued: list[Enqueued]
    cursor: Any

    @property
    def output(self) -> dict[str, Any] | None:
        """The job's output, as a reader would get it; None unless it completed."""
        match self.verdict:
            case Complete(output=output):
                decoded: dict[str, Any] = msgspec.json.decode(output)
                return decoded
            case _:
                return None

    @property
    def failure(self) -> Failure | None:
        """What went wrong: `error_class`, `message`, `details`; None when nothing did."""
        match self.verdict:
            case DeadLetter(failure=failure) | RetryAt(failure=failure):
                return failure
            case _:
                return None


async def run_inline(
    registry: Registry,
    type: str,
    input: Mapping[str, Any] | None = None,
    *,
    queue: str = "default",
    tenant_id: str = "test",
    user_id: int = 1,
    attempt: int = 1,
    failures: int = 0,
    cursor: object = None,
    tags: Sequence[str] = (),
    metadata: Mapping[str, str | int | float | bool] | None = None,
    max_retries: int | None = None,
    retry_delay_ms: int | None = None,
    timeout_ms: int | None = None,
    cancelled: bool = False,
    settings: QueueSettings | None = None,
) -> InlineRun:
    """Run the handler of `type` once, as attempt number `attempt` after `failures` failed ones, and judge it.

    `cursor` is what attempts before saved, `cancelled` what `ctx.cancelled` says, `settings` the queue's.
    Delays in the verdict are exact: jitter is left out. What the handler raises becomes the outcome, as on a
    worker. Raises RegistrationError for a type without a handler, ValidationError for an input or an option
    that no job can have.
    """
    if type not in registry:
        raise RegistrationError(f"no handler is registered for the type {type!r}")
    handler, of_queue = registry[type], settings or QueueSettings()
    policy = retry_policy(
        of_queue, type, max_retries=max_retries, retry_delay_ms=retry_delay_ms, handler=handler.settings
    )
    claimed = _claimed(
        type=type,
        queue=queue,
        tenant_id=tenant_id,
        user_id=user_id,
        input=checked("the input", {} if input is None else dict(input), MAX_INPUT_BYTES),
        metadata=checked("metadata", dict(metadata or {}), _MAX_METADATA_BYTES),
        cursor=None if cursor is None else checked("the cursor", cursor, MAX_INPUT_BYTES),
        tags=list(tags),
        attempt=attempt,
        failures=failures,
        max_retries=policy.max_retries,
        retry_delay_ms=policy.initial_delay_ms,
    )
    limit_ms = _limit_ms(of_queue, type, timeout_ms, handler)
    desk = _Desk(claimed, limit_ms, cancelled)
    outcome = await _run(handler, JobContext(claimed, desk), claimed, limit_ms)
    exact = msgspec.structs.replace(policy, jitter=False)
    return InlineRun(
        outcome=outcome,
        verdict=decide(outcome, exact, failures=failures, dice=0.0),
        progress=desk.progress,
        enqueued=[_enqueued(child) for child in desk.children],
        cursor=None if desk.cursor is None else msgspec.json.decode(desk.cursor),
    )


async def _run(handler: FunctionHandler, context: JobContext, claimed: Claimed, limit_ms: int) -> Outcome:
    threads = HandlerThreads(1)
    clock = asyncio.timeout(limit_ms / 1_000)
    try:
        async with clock:
            return Succeeded(document_of(await handler.start(context, claimed, threads)))
    except Exception as error:
        if clock.expired():
            return handler.judge(TimeoutError(f"it ran longer than its {limit_ms} ms"))
        return handler.judge(error)
    finally:
        threads.close()


class _Desk:
    """What the context asks for, remembered instead of stored."""

    def __init__(self, claimed: Claimed, limit_ms: int, cancelled: bool) -> None:
        self._queue = claimed.queue
        self.cancelled = cancelled
        self.deadline = datetime.now(UTC) + timedelta(milliseconds=limit_ms)
        self.progress: list[Progress] = []
        self.children: list[Child] = []
        self.cursor = claimed.cursor

    def report(self, percent: float | None, note: str | None) -> _Turn:
        self.progress.append(Progress(percent, note))
        return _Turn()

    def keep(self, cursor: bytes) -> _Turn:
        self.cursor = cursor
        return _Turn()

    def adopt(self, job_type: str, document: bytes, options: dict[str, object]) -> ChildId:
        child = parse_child(
            job_type,
            document,
            options,
            queue=self._queue,
            now_ms=time.time_ns() // 1_000_000,
            count=len(self.children),
        )
        self.children.append(child)
        return child.id


class _Turn:
    """Awaited, it lets the others run."""

    def __await__(self) -> Generator[Any, None, None]:
        yield


def _claimed(**given: Any) -> Claimed:
    now = datetime.now(UTC)
    rest: dict[str, Any] = {
        "id": uuid7(time.time_ns() // 1_000_000, os.urandom(10)),
        "token": uuid4(),
        "priority": 0,
        "crashes": 0,
        "max_retries_given": False,
        "retry_delay_given": False,
        "visibility_timeout_ms": 30_000,
        "timeout_ms": None,
        "correlation_id": "inline",
        "traceparent": None,
        "unique_key": None,
        "created_at": now,
        "started_at": now,
        "wait_ms": 0,
    }
    return Claimed(**(rest | given))


def _limit_ms(settings: QueueSettings, job_type: str, given: int | None, handler: FunctionHandler) -> int:
    return timeout_ms(settings, job_type, given=given, handler=handler.settings)


def _enqueued(child: Child) -> Enqueued:
    return Enqueued(
        id=child.id,
        type=child.order.type,
        queue=child.order.queue,
        input=msgspec.json.decode(child.order.input),
        priority=child.order.priority,
        delay_ms=child.order.delay_ms,
        unique_key=child.order.unique_key,
    )
