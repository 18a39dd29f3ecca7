"""Queues and their settings."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ferryman.core.job import Actor
from ferryman.core.queues import QueueSettings, decode, encode
from ferryman.ledger.failures import sqlstate
from ferryman.ledger.pool import Held, Pools
from ferryman.ledger.statements import statement
from ferryman.ledger.writes import transact, who, write
from ferryman.ports import LedgerError, QueueNotEmptyError, QueueRecord

_LOCK_TIMEOUT: Final = "55P03"


class Queues:
    """`QueueStore` on PostgreSQL. That the three built-in ones stay is for the caller to see to."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def get(self, name: str) -> QueueRecord | None:
        """The queue, or None."""
        rows = await self._pools.read.fetch(statement("get_queues"), name)
        return _record(rows[0]) if rows else None

    async def all(self) -> list[QueueRecord]:
        """Every queue, by name."""
        return [_record(row) for row in await self._pools.read.fetch(statement("get_queues"), None)]

    async def put(self, name: str, settings: QueueSettings, actor: Actor) -> tuple[QueueRecord, bool]:
        """As `QueueStore.put`."""
        document = encode(msgspec.structs.replace(settings, paused=None)).decode()
        rows = await write(self._pools, "put_queue", name, document, settings.paused, *who(actor))
        record = _record(rows[0])
        return record, record.version == 1

    async def delete(self, name: str, actor: Actor) -> bool:
        """As `QueueStore.delete`. A submission that is under way counts as an unfinished job."""

        async def run(connection: Held) -> bool:
            if not await _lock(connection, name):
                return False
            # A statement of its own, for a snapshot that has what was submitted before the lock was granted.
            if await connection.fetchrow(statement("delete_queue"), name, *who(actor)) is None:
                raise QueueNotEmptyError(f"queue {name!r} has unfinished jobs")
            return True

        return await transact(self._pools, run)

    async def set_paused(self, name: str, paused: bool, actor: Actor) -> QueueRecord | None:
        """As `QueueStore.set_paused`. What is so already stays as it is, its version too."""
        rows = await write(self._pools, "pause_queue", name, paused, *who(actor))
        return _record(rows[0]) if rows else None


async def _lock(connection: Held, name: str) -> bool:
    try:
        return await connection.fetchrow(statement("lock_queue"), name) is not None
    except LedgerError:
        raise
    except Exception as error:
        if sqlstate(error) != _LOCK_TIMEOUT:
            raise
        raise QueueNotEmptyError(f"jobs are being submitted to queue {name!r}") from error


def _record(row: Any) -> QueueRecord:
    return QueueRecord(
        name=row["name"], settings=decode(row["settings"]), paused=row["paused"], version=row["version"]
    )
