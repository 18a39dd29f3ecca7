"""Filling Redis with a queue from the ledger, while workers and APIs go on pushing and stepping."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, cast
from uuid import uuid4

from ferryman.core.job import Position
from ferryman.dispatch import keys, packing, scripts
from ferryman.dispatch.link import Link
from ferryman.ports import QueueRecord


async def configure(link: Link, record: QueueRecord) -> None:
    """Copy settings and pause state, unless Redis has newer ones."""
    settings = record.settings
    cursor = 0
    while True:
        cursor = await link.run(
            scripts.CONFIGURE,
            record.name,
            record.version,
            int(record.paused),
            settings.priority_aging_ms,
            settings.max_concurrency,
            *packing.limits(settings),
            cursor,
        )
        if cursor == 0:
            return


async def rebuild(link: Link, record: QueueRecord, pages: AsyncIterator[Sequence[Position]]) -> int:
    """Copy every page, drop what was named neither by a page nor by a push meanwhile, mark the queue warm.

    Answers how many positions were copied. When another rebuild begins, or Redis is flushed, this one ends
    early and leaves the rest to the other, or to the next.
    """
    generation = uuid4().hex
    await configure(link, record)
    await link.run(scripts.BEGIN, record.name, generation)
    copied = 0
    async for page in pages:
        for chunk in packing.chunks(page):
            if not await link.run(scripts.PUSH, record.name, generation, 0, *packing.positions(chunk)):
                return copied
            copied += len(chunk)
    if await _drop_unnamed(link, record.name, generation):
        await link.run(scripts.WARM, record.name, generation)
    return copied


async def _drop_unnamed(link: Link, queue: str, generation: str) -> bool:
    """False when this rebuild is over."""
    for tenant in [b"", *await _tenants(link, queue)]:
        cursor: Any = 0
        while True:
            cursor = await link.run(scripts.DROP, queue, generation, tenant, cursor)
            if cursor < 0:
                return False
            if cursor == 0:
                break
    return True


async def _tenants(link: Link, queue: str) -> list[bytes]:
    """Tenants with ready ids."""
    counts = await link.ask(lambda client: cast("Awaitable[list[bytes]]", client.hkeys(keys.count(queue))))
    kind = b"ready:"
    return [field.removeprefix(kind) for field in counts if field.startswith(kind) and field != kind]
