"""Queues as people and the operator set them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec import structs

from ferryman.auth.policy import Call, Ownership, may
from ferryman.core.job import Actor, Position
from ferryman.core.queues import BUILT_IN, QueueSettings, is_system
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import BuiltInQueueError, not_found
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.ports import Ledger, QueueRecord


class Queues:
    """Reads and changes. What the dispatcher missed of a change, its next rebuild copies."""

    def __init__(self, ledger: Ledger, directory: QueueDirectory, link: DispatcherLink) -> None:
        self._ledger = ledger
        self._directory = directory
        self._link = link

    async def all(self, asker: Asker) -> list[QueueRecord]:
        """Every queue by name; those of the system for who may change queues alone."""
        asker.actor(Call.QUEUE_READ, Ownership.ALL)
        records = await self._ledger.queues.all()
        return [_shown_to(asker, record) for record in records if _is_open_to(asker, record.name)]

    async def get(self, asker: Asker, name: str) -> QueueRecord:
        """One queue. Raises NotFoundError."""
        asker.actor(Call.QUEUE_READ, Ownership.ALL)
        record = await self._ledger.queues.get(name) if _is_open_to(asker, name) else None
        if record is None:
            raise not_found("queue")
        return _shown_to(asker, record)

    async def put(self, asker: Asker, name: str, settings: QueueSettings) -> tuple[QueueRecord, bool]:
        """Create or replace; True when it was created. Raises BuiltInQueueError for a name that is kept."""
        if is_system(name) and await self._ledger.queues.get(name) is None:
            raise BuiltInQueueError("names that begin with system. are kept for the system's own queues")
        record, created = await self._ledger.queues.put(name, settings, _name(asker))
        if created:
            # It has no jobs yet, so this makes it known at once: until the next rebuild it would be cold.
            await self._link.call(lambda dispatcher: dispatcher.rebuild(record, _no_pages()))
        await self._changed(record)
        return record, created

    async def set_paused(self, asker: Asker, name: str, paused: bool) -> QueueRecord:
        """Stop or resume claims. Raises NotFoundError."""
        record = await self._ledger.queues.set_paused(name, paused, _name(asker))
        if record is None:
            raise not_found("queue")
        await self._changed(record)
        return record

    async def delete(self, asker: Asker, name: str) -> None:
        """Raises BuiltInQueueError, QueueNotEmptyError, NotFoundError."""
        actor = _name(asker)
        if name in BUILT_IN or is_system(name):
            raise BuiltInQueueError(f"{name} is one of the queues that always exist")
        if not await self._ledger.queues.delete(name, actor):
            raise not_found("queue")
        self._directory.forget(name)
        await self._link.call(lambda dispatcher: dispatcher.forget_queue(name))

    async def _changed(self, record: QueueRecord) -> None:
        self._directory.forget(record.name)
        await self._link.call(lambda dispatcher: dispatcher.configure(record))


async def _no_pages() -> AsyncIterator[Sequence[Position]]:
    pages: tuple[Sequence[Position], ...] = ()
    for page in pages:
        yield page


def _is_open_to(asker: Asker, name: str) -> bool:
    return not is_system(name) or _may_change(asker)


def _may_change(asker: Asker) -> bool:
    return may(asker.principal, Call.QUEUE_CHANGE, Ownership.ALL) is not None


def _shown_to(asker: Asker, record: QueueRecord) -> QueueRecord:
    """Who may not change queues learns nothing of other tenants: which there are, and what they may."""
    if _may_change(asker):
        return record
    own = {k: v for k, v in record.settings.tenants.items() if k == asker.principal.tenant_id}
    return structs.replace(record, settings=structs.replace(record.settings, tenants=own))


def _name(asker: Asker) -> Actor:
    return asker.actor(Call.QUEUE_CHANGE, Ownership.ALL)
