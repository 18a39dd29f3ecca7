"""The one place where attempts end in the ledger: verdicts become rows, under their tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, assert_never

import msgspec
from msgspec import Struct

from ferryman.core.failures import MAX_MESSAGE_CHARS, ErrorClass, Failure, fingerprint, sanitise
from ferryman.core.job import Actor, ActorKind, Position, Settlement
from ferryman.core.status import Action
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt, Verdict
from ferryman.ledger.failures import is_conflict, is_foreign, translate
from ferryman.ledger.pool import Held, Pools
from ferryman.ledger.positions import gone, to_position
from ferryman.ledger.statements import statement
from ferryman.ledger.submissions import Submission, insert_children
from ferryman.ports import LedgerUnavailableError, RejectedDataError, UnknownQueueError

MAX_BATCH: Final = 500
_CONFLICT_TRIES: Final = 5


class Ending(Struct, frozen=True):
    """A settlement, and what a rescue adds: the lease that it judged, and the crashes that it counts."""

    settlement: Settlement
    seen: datetime | None = None
    crashes: int | None = None


class Settler:
    """Ends attempts in the name of one kind of actor."""

    def __init__(self, pools: Pools, kind: ActorKind) -> None:
        self._pools = pools
        self._kind = kind

    async def settle(self, actor_id: str, endings: Sequence[Ending]) -> list[Position]:
        """A position for each attempt that still held its token, and for each child that entered with one.

        Raises LedgerUnavailableError; then the same call may be made again.
        """
        # In one order for everybody, so that two batches that meet do not lock each other out.
        ordered = sorted(endings, key=lambda ending: ending.settlement.id)
        positions: list[Position] = []
        for start in range(0, len(ordered), MAX_BATCH):
            for part in _parts(ordered[start : start + MAX_BATCH]):
                positions += await self._by_halves(actor_id, part)
        return positions

    async def _by_halves(self, actor_id: str, part: list[Ending]) -> list[Position]:
        if not part:
            return []
        try:
            return await self._written(actor_id, part)
        except (RejectedDataError, UnknownQueueError):
            if len(part) > 1:
                middle = len(part) // 2
                first = await self._by_halves(actor_id, part[:middle])
                return first + await self._by_halves(actor_id, part[middle:])
        return await self._written(actor_id, [_acceptable(part[0])])

    async def _written(self, actor_id: str, part: list[Ending]) -> list[Position]:
        for _ in range(_CONFLICT_TRIES):
            try:
                return await self._write(actor_id, part)
            except Exception as error:
                if not is_foreign(error):
                    raise
                if not is_conflict(error):
                    raise translate(error) from error
        raise LedgerUnavailableError("the ledger is contended")

    async def _write(self, actor_id: str, part: list[Ending]) -> list[Position]:
        async with self._pools.hot.held() as connection:
            if not any(ending.settlement.children for ending in part):
                return await self._end(connection, actor_id, part)
            async with connection.transaction():
                ended = await self._end(connection, actor_id, part)
                return ended + await self._insert_children(connection, actor_id, part, ended)

    async def _end(self, connection: Held, actor_id: str, part: list[Ending]) -> list[Position]:
        if self._kind is ActorKind.WORKER and all(
            isinstance(ending.settlement.verdict, Complete) for ending in part
        ):
            return await _complete(connection, actor_id, part)
        rows = await connection.fetch(
            statement("settle_jobs"),
            *(list(column) for column in zip(*map(_row, part), strict=True)),
            self._kind.value,
            actor_id,
            connection.shard,
        )
        return [to_position(row) for row in rows]

    async def _insert_children(
        self, connection: Held, actor_id: str, part: list[Ending], ended: list[Position]
    ) -> list[Position]:
        held = {position.id for position in ended}
        actor = Actor(kind=self._kind, id=actor_id)
        children = [
            Submission(child, actor)
            for ending in part
            if ending.settlement.id in held
            for child in ending.settlement.children
        ]
        return await insert_children(connection, children)


async def _complete(connection: Held, actor_id: str, part: list[Ending]) -> list[Position]:
    """The batch that is commonest by far, by a statement that does nothing else."""
    settlements = [ending.settlement for ending in part]
    rows = await connection.fetch(
        statement("complete_jobs"),
        [one.id for one in settlements],
        [one.token for one in settlements],
        [_output(one.verdict) for one in settlements],
        [one.run_ms for one in settlements],
        [one.wait_ms for one in settlements],
        actor_id,
        connection.shard,
    )
    return [gone(row["id"], queue=row["queue_name"], tenant_id=row["tenant_id"]) for row in rows]


def _parts(endings: Sequence[Ending]) -> tuple[list[Ending], ...]:
    """Plain completions, other verdicts, and those with children: each has its own way."""
    with_children = [ending for ending in endings if ending.settlement.children]
    plain = [ending for ending in endings if not ending.settlement.children]
    complete = [ending for ending in plain if isinstance(ending.settlement.verdict, Complete)]
    other = [ending for ending in plain if not isinstance(ending.settlement.verdict, Complete)]
    return complete, other, with_children


def _row(ending: Ending) -> tuple[Any, ...]:
    """The columns of `sql/settle_jobs.sql`."""
    one = ending.settlement
    failure = one.verdict.failure if isinstance(one.verdict, RetryAt | DeadLetter) else None
    return (
        one.id,
        one.token,
        _action(one.verdict).value,
        one.verdict.delay_ms if isinstance(one.verdict, RetryAt | Reschedule) else 0,
        _output(one.verdict),
        failure and failure.error_class.value,
        failure and failure.message,
        failure and _details(failure),
        failure and failure.fingerprint,
        failure and failure.reason,
        one.run_ms,
        one.wait_ms,
        ending.crashes,
        ending.seen,
    )


def _action(verdict: Verdict) -> Action:
    match verdict:
        case Complete():
            return Action.COMPLETED
        case RetryAt():
            return Action.RETRIED
        case DeadLetter():
            return Action.DEAD_LETTERED
        case Cancel():
            return Action.CANCELLED
        case Reschedule(because=because):
            return Action(because)
        case _:
            assert_never(verdict)


def _output(verdict: Verdict) -> str | None:
    return verdict.output.decode() if isinstance(verdict, Complete) else None


def _details(failure: Failure) -> str:
    try:
        return msgspec.json.encode(failure.details).decode()
    except (TypeError, ValueError, RecursionError):
        # A handler may put anything there, and its failure must be recorded all the same.
        return '{"omitted":"the details are no JSON document"}'


def _acceptable(ending: Ending) -> Ending:
    """The same end with nothing in it that PostgreSQL could refuse."""
    one = ending.settlement
    verdict = one.verdict
    if isinstance(verdict, RetryAt | DeadLetter) and not one.children:
        verdict = msgspec.structs.replace(verdict, failure=_printable(verdict.failure))
    else:
        verdict = DeadLetter(_refused())
    settlement = msgspec.structs.replace(one, verdict=verdict, children=[])
    return msgspec.structs.replace(ending, settlement=settlement)


def _printable(failure: Failure) -> Failure:
    return msgspec.structs.replace(
        failure,
        message=sanitise(failure.message, MAX_MESSAGE_CHARS),
        details={"omitted": "the details cannot be stored"},
        fingerprint=sanitise(failure.fingerprint, 16),
        reason=sanitise(failure.reason, 50),
    )


def _refused() -> Failure:
    message = "the result, or a job that was to follow, cannot be stored"
    return Failure(
        error_class=ErrorClass.VALIDATION,
        message=message,
        details={},
        fingerprint=fingerprint(ErrorClass.VALIDATION, "refused", message),
    )
