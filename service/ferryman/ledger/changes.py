"""Jobs as users change them: cancel and retry."""

from __future__ import annotations

from uuid import UUID

from ferryman.core.job import Actor, Position
from ferryman.core.status import JobStatus
from ferryman.ledger.dead_letters import requeue_letter
from ferryman.ledger.pool import Pools
from ferryman.ledger.positions import to_position
from ferryman.ledger.statements import statement
from ferryman.ledger.writes import who, write, write_counted
from ferryman.ports import CancelResult, RetryResult, Scope


class Changes:
    """The half of the job store that people change jobs through."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def cancel(self, scope: Scope, job_id: UUID, actor: Actor) -> tuple[CancelResult, Position | None]:
        """As `JobStore.cancel`. Asking a running job again changes nothing and is answered the same."""
        pools = self._pools.as_tenant(scope.tenant_id)
        rows = await write_counted(pools, "cancel_job", scope.tenant_id, scope.user_id, job_id, *who(actor))
        if not rows:
            return "not_found", None
        match rows[0]["result"]:
            case "cancelled":
                return "cancelled", to_position(rows[0])
            case "requested":
                return "requested", to_position(rows[0])
            case _:
                return "already_final", None

    async def retry(self, scope: Scope, job_id: UUID, actor: Actor) -> tuple[RetryResult, Position | None]:
        """As `JobStore.retry`. A job whose dead letter was discarded is not retryable."""
        pools = self._pools.as_tenant(scope.tenant_id)
        rows = await write(pools, "hurry_job", scope.tenant_id, scope.user_id, job_id, *who(actor))
        if not rows:
            return "not_found", None
        if rows[0]["hurried"]:
            return "hurried", to_position(rows[0])
        if rows[0]["status"] == JobStatus.DEAD_LETTER:
            return await self._requeue(scope, job_id, actor)
        return "not_retryable", None

    async def _requeue(self, scope: Scope, job_id: UUID, actor: Actor) -> tuple[RetryResult, Position | None]:
        pools = self._pools.as_tenant(scope.tenant_id)
        letter = await pools.hot.fetchrow(statement("dead_letter_of"), scope.tenant_id, job_id)
        if letter is None:
            return "not_retryable", None
        result, position = await requeue_letter(self._pools, scope, letter["id"], actor)
        match result:
            case "requeued" | "twin_unfinished":
                return result, position
            case _:
                return "not_retryable", None
