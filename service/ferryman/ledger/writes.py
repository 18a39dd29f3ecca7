"""Changes that people and the maintainer ask for: one guarded statement each, run again when it collided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from ferryman.core.job import Actor
from ferryman.ledger.failures import is_conflict, is_foreign, sqlstate, translate
from ferryman.ledger.pool import Held, Reaches
from ferryman.ledger.statements import statement

T = TypeVar("T")

_TRIES: Final = 4
# Of the unique keys alone: a twin came in between, and the same statement now sees it.
_UNIQUE_VIOLATION: Final = "23505"


async def write(pools: Reaches, name: str, *args: Any) -> list[Any]:
    """The rows of one statement. Raises LedgerError."""

    async def run() -> list[Any]:
        async with pools.hot.held() as connection:
            return await connection.fetch(statement(name), *args)

    return await _again(run)


async def write_counted(pools: Reaches, name: str, *args: Any) -> list[Any]:
    """As `write`, for a statement whose last parameter is the shard of the statistics."""

    async def run() -> list[Any]:
        async with pools.hot.held() as connection:
            return await connection.fetch(statement(name), *args, connection.shard)

    return await _again(run)


async def transact(pools: Reaches, work: Callable[[Held], Awaitable[T]]) -> T:
    """What `work` answers, its statements in one transaction. Raises LedgerError."""

    async def run() -> T:
        async with pools.hot.held() as connection, connection.transaction():
            return await work(connection)

    return await _again(run)


def who(actor: Actor) -> tuple[str, str, bool, str | None, str | None, str | None]:
    """The six parameters that name an actor: kind, id, override, reason, correlation, trace."""
    return (
        actor.kind,
        actor.id,
        actor.override,
        actor.override_reason,
        actor.correlation_id,
        actor.trace_id,
    )


async def _again(run: Callable[[], Awaitable[T]]) -> T:
    for remaining in reversed(range(_TRIES)):
        try:
            return await run()
        except Exception as error:
            if not is_foreign(error):
                raise
            if not remaining or not (is_conflict(error) or sqlstate(error) == _UNIQUE_VIOLATION):
                raise translate(error) from error
    raise AssertionError("unreachable: the last try answers or raises")
