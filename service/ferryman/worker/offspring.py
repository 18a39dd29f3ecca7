"""The rows of jobs that handlers submit, with the settings of their queues."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from msgspec import Struct

from ferryman.auth.principal import Principal
from ferryman.core.failures import ValidationError
from ferryman.core.job import Claimed, NewJob
from ferryman.core.queues import QueueSettings, is_system
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.orders import Order, make_job
from ferryman.ports import LedgerUnavailableError
from ferryman.worker.backoff import Backoff
from ferryman.worker.queue_book import QueueBook

if TYPE_CHECKING:
    from ferryman.worker.attempt import Attempt


class Origin(Struct, frozen=True, kw_only=True):
    """Where a job comes from: whose it is, and what its trail goes on from."""

    tenant_id: str
    user_id: int
    correlation_id: str
    traceparent: str | None = None
    parent_id: UUID | None = None


def origin_of(parent: Claimed) -> Origin:
    """A child belongs to its parent's tenant and user, and goes on its trail."""
    return Origin(
        tenant_id=parent.tenant_id,
        user_id=parent.user_id,
        correlation_id=parent.correlation_id or str(parent.id),
        traceparent=parent.traceparent,
        parent_id=parent.id,
    )


class Offspring:
    """Makes rows of orders."""

    def __init__(self, book: QueueBook) -> None:
        self._book = book

    async def grow(self, attempt: Attempt) -> None:
        """Fill `attempt.offspring` from its children. Raises ValidationError when a child's queue does not
        exist; an outage of the ledger is waited out, as long as the attempt has time.
        """
        origin = origin_of(attempt.claimed)
        attempt.offspring = [
            await self.row_of(child.order, origin, job_id=UUID(int=child.id.int))
            for child in attempt.children
        ]

    async def row_of(self, order: Order, origin: Origin, *, job_id: UUID) -> NewJob:
        """The row of one order. Raises and waits as `grow`."""
        settings = await self._settings(order.queue)
        principal = Principal(
            subject="worker", tenant_id=origin.tenant_id, user_id=origin.user_id, roles=frozenset()
        )
        asker = Asker(
            principal=principal, correlation_id=origin.correlation_id, traceparent=origin.traceparent
        )
        job = make_job(order, settings, asker, id=job_id, tenant_id=origin.tenant_id)
        job.parent_id = origin.parent_id
        return job

    async def _settings(self, queue: str) -> QueueSettings:
        backoff = Backoff(0.1, 2.0)
        while True:
            try:
                settings = await self._book.settings_of(queue)
            except LedgerUnavailableError:
                await backoff.pause()
                continue
            if settings is None or is_system(queue):
                raise ValidationError(f"there is no queue {queue!r}")
            return settings
