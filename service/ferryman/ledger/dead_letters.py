"""Dead letters: read, requeue, discard, reconcile."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from ferryman.core.job import Actor, DeadLetterRecord, Position
from ferryman.ledger.lookup import LAST_ID, PAGE_BYTES, page_of
from ferryman.ledger.pool import Held, Pools
from ferryman.ledger.positions import to_position
from ferryman.ledger.statements import statement
from ferryman.ledger.writes import transact, who, write, write_counted
from ferryman.ports import (
    DigestUnknownError,
    LetterFilter,
    Page,
    RedrivePreview,
    RedriveResult,
    RequeueResult,
    Scope,
    UnknownQueueError,
)

MAX_BATCH: Final = 1_000
SAMPLE: Final = 10
_BYTES_COLUMNS: Final = ("details", "attempts", "input", "metadata")


class DeadLetters:
    """`DeadLetterStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def get(self, scope: Scope, letter_id: UUID) -> DeadLetterRecord | None:
        """The letter, or None when the scope has no such letter."""
        found = await self._read(scope, [letter_id])
        return found[0] if found else None

    async def find(
        self, scope: Scope, wanted: LetterFilter, *, limit: int, after: UUID | None
    ) -> Page[DeadLetterRecord]:
        """Newest first, strictly older than `after`. A page whose documents are large has fewer rows, at
        least one. Raises QueryTooExpensiveError.
        """
        rows = await self._pools.as_tenant(scope.tenant_id).read.fetch(
            statement("find_letters"),
            scope.tenant_id,
            scope.user_id,
            after or LAST_ID,
            wanted.status,
            *_conditions(wanted),
            limit,
            PAGE_BYTES,
        )
        return page_of(rows, _letter)

    async def requeue(
        self, scope: Scope, letter_id: UUID, actor: Actor
    ) -> tuple[RequeueResult, Position | None]:
        """As `DeadLetterStore.requeue`."""
        return await requeue_letter(self._pools, scope, letter_id, actor)

    async def discard(
        self, scope: Scope, letter_id: UUID, actor: Actor
    ) -> Literal["discarded", "not_dead", "not_found"]:
        """Close the letter for good; it can still be read."""
        pools = self._pools.as_tenant(scope.tenant_id)
        rows = await write(pools, "discard_letter", scope.tenant_id, scope.user_id, letter_id, *who(actor))
        if not rows:
            return "not_found"
        return "discarded" if rows[0]["result"] == "discarded" else "not_dead"

    async def preview(
        self, scope: Scope, wanted: LetterFilter, *, max_redrives: int | None, batch_size: int
    ) -> RedrivePreview:
        """As `DeadLetterStore.preview`. `matched` counts all that match, the batch and the rest. The digest
        is good for one apply within the hour, by the same tenant.
        """
        matched, ids = await self._match(scope, wanted, max_redrives, batch_size)
        seed = [secrets.token_hex(16), scope.tenant_id, wanted, [str(letter_id) for letter_id in ids]]
        digest = hashlib.sha256(msgspec.json.encode(seed)).hexdigest()
        await write(self._pools.as_tenant(scope.tenant_id), "keep_preview", digest, scope.tenant_id, ids)
        return RedrivePreview(matched=matched, sample=await self._read(scope, ids[:SAMPLE]), digest=digest)

    async def redrive(
        self,
        scope: Scope,
        wanted: LetterFilter,
        actor: Actor,
        *,
        digest: str | None,
        max_redrives: int | None,
        batch_size: int,
        reset_retries: bool,
        rate_per_second: float | None = None,
    ) -> RedriveResult:
        """As `DeadLetterStore.redrive`. The digest alone says which letters move; the filter then only says
        what `remaining` counts.
        """
        terms = [reset_retries, 1_000 / rate_per_second if rate_per_second else 0.0, *who(actor)]
        if digest is None:
            _, ids = await self._match(scope, wanted, max_redrives, batch_size)
            rows = await write_counted(
                self._pools.as_tenant(scope.tenant_id),
                "requeue_letters",
                scope.tenant_id,
                scope.user_id,
                ids,
                *terms,
            )
        else:
            ids, rows = await self._spend(scope, digest, terms)
        moved = [to_position(row) for row in rows if row["result"] == "requeued"]
        remaining, _ = await self._match(scope, wanted, max_redrives, 0)
        return RedriveResult(
            requeued=len(moved), skipped=len(ids) - len(moved), remaining=remaining, positions=moved
        )

    async def _spend(self, scope: Scope, digest: str, terms: Sequence[Any]) -> tuple[list[UUID], list[Any]]:
        """Spend a preview and move its letters, both or neither."""

        async def run(connection: Held) -> tuple[list[UUID], list[Any]]:
            preview = await connection.fetchrow(statement("spend_preview"), digest, scope.tenant_id)
            if preview is None:
                raise DigestUnknownError("no preview with this digest is open")
            ids: list[UUID] = preview["letter_ids"]
            return ids, await connection.fetch(
                statement("requeue_letters"), scope.tenant_id, scope.user_id, ids, *terms, connection.shard
            )

        return await transact(self._pools.as_tenant(scope.tenant_id), run)

    async def _match(
        self, scope: Scope, wanted: LetterFilter, max_redrives: int | None, batch_size: int
    ) -> tuple[int, list[UUID]]:
        """How many dead letters match, and the oldest of those that can go."""
        row = await self._pools.as_tenant(scope.tenant_id).read.fetchrow(
            statement("match_letters"),
            scope.tenant_id,
            scope.user_id,
            *_conditions(wanted),
            max_redrives,
            min(batch_size, MAX_BATCH),
        )
        return row["matched"], list(row["ids"])

    async def _read(self, scope: Scope, ids: Sequence[UUID]) -> list[DeadLetterRecord]:
        rows = await self._pools.as_tenant(scope.tenant_id).read.fetch(
            statement("get_letters"), scope.tenant_id, scope.user_id, list(ids)
        )
        return [_letter(row) for row in rows]


async def requeue_letter(
    pools: Pools, scope: Scope, letter_id: UUID, actor: Actor
) -> tuple[RequeueResult, Position | None]:
    """Requeue the job of one dead letter, its retries reset. Raises UnknownQueueError, LedgerError."""
    args = (scope.tenant_id, scope.user_id, [letter_id], True, 0.0, *who(actor))
    rows = await write_counted(pools.as_tenant(scope.tenant_id), "requeue_letters", *args)
    if not rows:
        return "not_found", None
    match rows[0]["result"]:
        case "requeued":
            return "requeued", to_position(rows[0])
        case "twin_unfinished":
            return "twin_unfinished", None
        case "unknown_queue":
            raise UnknownQueueError(rows[0]["queue_name"])
        case _:
            return "not_dead", None


def _conditions(wanted: LetterFilter) -> tuple[Any, ...]:
    """What every search of letters asks, beside their status."""
    return (
        wanted.queue,
        wanted.type,
        wanted.error_classes or None,
        wanted.fingerprint,
        wanted.older_than_ms,
        wanted.newer_than_ms,
    )


def _letter(row: Any) -> DeadLetterRecord:
    fields = {name: row[name] for name in DeadLetterRecord.__struct_fields__}
    for name in _BYTES_COLUMNS:
        fields[name] = fields[name].encode()
    return DeadLetterRecord(**fields)
