"""Changes to jobs and dead letters that people ask for: cancel, retry, requeue, discard."""

from __future__ import annotations

from typing import Final, assert_never
from uuid import UUID

from ferryman.auth.policy import Call, Ownership
from ferryman.core.job import Actor, Position
from ferryman.core.status import JobStatus
from ferryman.failpoints import reach
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import (
    NotDeadError,
    NotRetryableError,
    TwinUnfinishedError,
    already_final,
    not_found,
)
from ferryman.ports import Ledger, Scope

_TWIN: Final = "an unfinished job holds the same uniqueKey; this one can run again once that has ended"


class Changes:
    """The ledger decides, the dispatcher hears of it afterwards. Each raises NotFoundError for what the
    asker may not touch.
    """

    def __init__(self, ledger: Ledger, link: DispatcherLink) -> None:
        self._ledger = ledger
        self._link = link

    async def cancel(self, asker: Asker, job_id: UUID) -> JobStatus:
        """End a waiting job (cancelled) or ask a running one to stop (running). Raises AlreadyFinalError."""
        scope, actor = await self._on_job(asker, job_id)
        result, position = await self._ledger.jobs.cancel(scope, job_id, actor)
        reach("cancel.after_ledger")
        match result:
            case "cancelled":
                await self._tell(position)
                return JobStatus.CANCELLED
            case "requested":
                await self._ask_to_stop(position)
                return JobStatus.RUNNING
            case "already_final":
                raise already_final(await self._status(scope, job_id))
            case "not_found":
                raise not_found("job")
            case _:
                assert_never(result)

    async def retry(self, asker: Asker, job_id: UUID) -> JobStatus:
        """Run a retrying job now, or requeue a dead-lettered one. Raises NotRetryableError,
        TwinUnfinishedError, UnknownQueueError."""
        scope, actor = await self._on_job(asker, job_id)
        result, position = await self._ledger.jobs.retry(scope, job_id, actor)
        reach("retry.after_ledger")
        match result:
            case "hurried" | "requeued":
                await self._tell(position)
                return JobStatus.PENDING
            case "not_retryable":
                raise NotRetryableError("only a retrying job or a dead letter can be retried")
            case "twin_unfinished":
                raise TwinUnfinishedError(_TWIN)
            case "not_found":
                raise not_found("job")
            case _:
                assert_never(result)

    async def requeue(self, asker: Asker, letter_id: UUID) -> None:
        """Give a dead letter's job another life. Refusals and errors as in `retry`, and NotDeadError."""
        scope, actor = await self._on_letter(asker, Call.LETTER_REQUEUE, letter_id)
        result, position = await self._ledger.dead_letters.requeue(scope, letter_id, actor)
        match result:
            case "requeued":
                await self._tell(position)
            case "twin_unfinished":
                raise TwinUnfinishedError(_TWIN)
            case "not_dead":
                raise NotDeadError("the dead letter was requeued or discarded before")
            case "not_found":
                raise not_found("dead letter")
            case _:
                assert_never(result)

    async def discard(self, asker: Asker, letter_id: UUID) -> None:
        """Close a dead letter for good; it can still be read. Raises NotDeadError."""
        scope, actor = await self._on_letter(asker, Call.LETTER_DISCARD, letter_id)
        result = await self._ledger.dead_letters.discard(scope, letter_id, actor)
        match result:
            case "discarded":
                return
            case "not_dead":
                raise NotDeadError("the dead letter was requeued or discarded before")
            case "not_found":
                raise not_found("dead letter")
            case _:
                assert_never(result)

    async def _on_job(self, asker: Asker, job_id: UUID) -> tuple[Scope, Actor]:
        """Whose jobs may be changed, and in what name: whose the job is decides whether it is an override."""
        scope = asker.scope(Call.JOB_CHANGE)
        if scope.user_id is not None:
            return scope, asker.actor(Call.JOB_CHANGE, Ownership.OWN)
        job = await self._ledger.jobs.get(scope, job_id)
        if job is None:
            raise not_found("job")
        return scope, asker.actor_on(Call.JOB_CHANGE, job.tenant_id, job.user_id)

    async def _on_letter(self, asker: Asker, call: Call, letter_id: UUID) -> tuple[Scope, Actor]:
        scope = asker.scope(call)
        if scope.user_id is not None:
            return scope, asker.actor(call, Ownership.OWN)
        letter = await self._ledger.dead_letters.get(scope, letter_id)
        if letter is None:
            raise not_found("dead letter")
        return scope, asker.actor_on(call, letter.tenant_id, letter.user_id)

    async def _status(self, scope: Scope, job_id: UUID) -> JobStatus | None:
        job = await self._ledger.jobs.get(scope, job_id)
        return None if job is None else job.status

    async def _tell(self, position: Position | None) -> None:
        if position is not None:
            await self._link.push([position])

    async def _ask_to_stop(self, position: Position | None) -> None:
        if position is not None:
            queue, job_id = position.queue, position.id
            await self._link.call(lambda dispatcher: dispatcher.ask_to_stop(queue, job_id))
