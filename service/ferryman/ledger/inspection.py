"""What `ferryman doctor` wants to know of a database, over one connection of its own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final

import asyncpg
from msgspec import Struct

from ferryman.ledger.failures import translated
from ferryman.ledger.migrate import SchemaState, read_state

_CONNECT_SECONDS: Final = 5.0
_STATEMENT_SECONDS: Final = 10.0


class WorkerState(Struct, frozen=True, kw_only=True):
    """A worker as its last beat left it; `silent_ms` have passed since."""

    id: str
    queues: list[str]
    types: list[str]
    slots: int
    busy: int
    state: str
    silent_ms: float


class Waiting(Struct, frozen=True, kw_only=True):
    """Jobs of one type in one queue that are due and wait."""

    queue: str
    type: str
    jobs: int
    oldest_ms: float


class QueueState(Struct, frozen=True, kw_only=True):
    """A queue and whether it is paused."""

    name: str
    paused: bool
    max_waiting: int
    waiting: int


class Inspection(Struct, frozen=True, kw_only=True):
    """One look at a database. `now` is its clock in the middle of `round_trip_ms`."""

    version: str
    login: str
    is_boundless: bool
    is_owner: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    is_standby: bool
    is_pooled: bool
    now: datetime
    round_trip_ms: float
    schema: SchemaState
    workers: list[WorkerState]
    waiting: list[Waiting]
    queues: list[QueueState]


async def inspect(url: str) -> Inspection:
    """Look once; change nothing. What needs the schema is empty while there is none.

    Raises LedgerUnavailableError, LedgerError.
    """
    async with _connected(url) as connection:
        return await _look(connection)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    with translated():
        connection = await asyncpg.connect(
            url,
            timeout=_CONNECT_SECONDS,
            command_timeout=_STATEMENT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "ferryman-doctor"},
        )
        try:
            yield connection
        finally:
            await connection.close(timeout=_CONNECT_SECONDS)


async def is_boundless(url: str) -> bool:
    """Whether this login is above row-level security: a superuser, or BYPASSRLS.

    Raises LedgerUnavailableError, LedgerError.
    """
    async with _connected(url) as connection:
        return bool((await connection.fetchrow(_SERVER))["is_boundless"])


async def _look(connection: Any) -> Inspection:
    started = time.perf_counter()
    server = await connection.fetchrow(_SERVER)
    round_trip_ms = (time.perf_counter() - started) * 1_000
    schema = await read_state(connection.fetch)
    is_there = schema.is_ready
    return Inspection(
        **{name: value for name, value in server.items() if name != "pid"},
        # A pooler answers the connection's start by itself, with a process id that no server process has.
        is_pooled=server["pid"] != connection.get_server_pid(),
        round_trip_ms=round_trip_ms,
        schema=schema,
        workers=[WorkerState(**row) for row in await connection.fetch(_WORKERS)] if is_there else [],
        waiting=[Waiting(**row) for row in await connection.fetch(_WAITING)] if is_there else [],
        queues=[QueueState(**row) for row in await connection.fetch(_QUEUES)] if is_there else [],
    )


_SERVER: Final = """
SELECT current_setting('server_version') AS version, session_user AS login,
    (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user) AS is_boundless,
    EXISTS (
        SELECT FROM pg_class
        WHERE oid = to_regclass('ferryman.jobs') AND pg_get_userbyid(relowner) = session_user
    ) AS is_owner,
    current_setting('fsync')::boolean AS fsync,
    current_setting('full_page_writes')::boolean AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    pg_is_in_recovery() AS is_standby, pg_backend_pid() AS pid, clock_timestamp() AS now
"""
_WORKERS: Final = """
SELECT id, queues, types, slots, busy, state,
    (extract(epoch FROM now() - beat_at) * 1000)::float8 AS silent_ms
FROM ferryman.workers ORDER BY id
"""
_WAITING: Final = """
SELECT queue_name AS queue, type, count(*)::integer AS jobs,
    (extract(epoch FROM now() - min(ready_since)) * 1000)::float8 AS oldest_ms
FROM ferryman.jobs WHERE status = 'pending' AND run_at <= now()
GROUP BY queue_name, type ORDER BY oldest_ms DESC
"""
_QUEUES: Final = """
SELECT name, paused,
    coalesce((settings ->> 'maxSize')::integer, 1000) + coalesce((settings ->> 'maxBacklog')::integer, 5000)
        AS max_waiting,
    (SELECT count(*) FROM ferryman.jobs AS job WHERE job.queue_name = queue.name AND job.status = 'pending')
        ::integer AS waiting
FROM ferryman.queues AS queue ORDER BY name
"""
