"""The way to Redis: a bounded number of calls at once, one retry after a dropped connection, fast failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError

from ferryman.dispatch.circuit import Circuit
from ferryman.dispatch.connections import close_client
from ferryman.dispatch.failures import translated
from ferryman.dispatch.scripts import Argument, Script

T = TypeVar("T")


class Link:
    """Calls to one Redis. Every call may be made twice, so it must be harmless to repeat.

    `timeout_s` bounds each call as a whole: while Redis is frozen, connections are made one after another.
    """

    def __init__(self, client: Redis, circuit: Circuit, *, calls_at_once: int, timeout_s: float) -> None:
        self._client = client
        self._circuit = circuit
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(calls_at_once)

    async def run(self, script: Script, queue: str, *arguments: Argument) -> Any:
        """The answer of a script. Raises DispatcherUnavailableError."""
        return await self.ask(lambda client: script.run(client, queue, *arguments))

    async def ask(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """The answer to any command. Raises DispatcherUnavailableError."""
        self._circuit.check()
        async with self._slots:
            # Once more inside: whoever waited for a slot must not wait for a timeout as well.
            with self._circuit.attempt(), translated():
                async with asyncio.timeout(self._timeout_s):
                    return await self._twice(command)

    async def _twice(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            return await command(self._client)
        except RedisConnectionError:
            return await command(self._client)
        except ReadOnlyError:
            # A failover: behind the same name there may be another server by now.
            await self._client.connection_pool.disconnect(inuse_connections=False)
            return await command(self._client)

    async def close(self) -> None:
        """Close all connections."""
        await close_client(self._client)
