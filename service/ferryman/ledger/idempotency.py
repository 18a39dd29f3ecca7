"""Idempotency keys: the first try under a key fixes the ids of its jobs, so no other can store others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

from msgspec import structs

from ferryman.ledger.batching import Batcher
from ferryman.ledger.pool import Pools
from ferryman.ledger.writes import write
from ferryman.ports import KeyHolder, KeyState, LedgerUnavailableError

T = TypeVar("T", bound="tuple[KeyHolder, Any, Any]")

HOLDS_MS: Final = 86_400_000
# Every call is answered within five seconds: behind a try that is older nobody is left.
TRY_MS: Final = 6_000
_BATCH: Final = 200
_MAX_WAITING: Final = 5_000
_SIGHTINGS: Final = 3

_Taking = tuple[KeyHolder, bytes, Sequence[UUID]]
_Answering = tuple[KeyHolder, int, bytes]


class IdempotencyKeys:
    """`KeyStore` on PostgreSQL; concurrent callers share statements."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._takers: Batcher[_Taking, KeyState] = Batcher(
            self._take_all, max_batch=_BATCH, max_waiting=_MAX_WAITING, lanes=1
        )
        self._answerers: Batcher[_Answering, None] = Batcher(
            self._answer_all, max_batch=_BATCH, max_waiting=_MAX_WAITING, lanes=1
        )

    async def take(self, holder: KeyHolder, *, body_hash: bytes, job_ids: Sequence[UUID]) -> KeyState:
        """As `KeyStore.take`."""
        return await self._takers.submit((holder, body_hash, job_ids))

    async def answered(self, holder: KeyHolder, *, status: int, answer: bytes) -> None:
        """As `KeyStore.answered`."""
        await self._answerers.submit((holder, status, answer))

    async def free(self, holder: KeyHolder, *, tried_at: datetime) -> None:
        """As `KeyStore.free`."""
        pools = self._pools.as_tenant(holder.tenant_id)
        await write(pools, "free_key", holder.tenant_id, holder.user_id, holder.key, tried_at)

    async def _take_all(self, batch: Sequence[_Taking]) -> list[KeyState | Exception]:
        states: dict[KeyHolder, KeyState] = {}
        missing = _first_of_each(batch)
        for _ in range(_SIGHTINGS):  # a twin's row may be too young for this statement's snapshot to see
            states |= await self._take_some(missing)
            missing = [taking for taking in missing if taking[0] not in states]
            if not missing:
                break
        return list(_shares(batch, states))

    async def _take_some(self, batch: Sequence[_Taking]) -> dict[KeyHolder, KeyState]:
        rows = await write(
            self._pools,
            "take_keys",
            *_holders([holder for holder, _, _ in batch]),
            [body_hash for _, body_hash, _ in batch],
            ["{" + ",".join(map(str, job_ids)) + "}" for _, _, job_ids in batch],
            HOLDS_MS,
            TRY_MS,
        )
        return {
            KeyHolder(row["tenant_id"], row["user_id"], row["key"]): KeyState(
                is_taken=row["taken"],
                job_ids=tuple(row["job_ids"]),
                tried_at=row["tried_at"],
                body_hash=row["body_hash"],
                status=row["status"],
                answer=row["answer"],
            )
            for row in rows
        }

    async def _answer_all(self, batch: Sequence[_Answering]) -> list[None]:
        answers = _first_of_each(batch)
        await write(
            self._pools,
            "answer_keys",
            *_holders([holder for holder, _, _ in answers]),
            [status for _, status, _ in answers],
            [answer for _, _, answer in answers],
        )
        return [None] * len(batch)


def _first_of_each(batch: Sequence[T]) -> list[T]:
    """The items of a batch, only the first of each holder: a statement takes no key twice."""
    first: dict[KeyHolder, T] = {}
    for item in batch:
        first.setdefault(item[0], item)
    return list(first.values())


def _shares(batch: Sequence[_Taking], states: Mapping[KeyHolder, KeyState]) -> Iterator[KeyState | Exception]:
    """The answer of each item; of twins inside the batch the first alone may have taken the key."""
    seen: set[KeyHolder] = set()
    for holder, _, _ in batch:
        state = states.get(holder)
        if state is None:
            yield LedgerUnavailableError("an idempotency key changes hands too fast")
        else:
            yield structs.replace(state, is_taken=False) if holder in seen else state
        seen.add(holder)


def _holders(holders: Sequence[KeyHolder]) -> tuple[list[str], list[int], list[str]]:
    return (
        [holder.tenant_id for holder in holders],
        [holder.user_id for holder in holders],
        [holder.key for holder in holders],
    )
