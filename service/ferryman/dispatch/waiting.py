"""The blocking pop of the wake marker, on connections of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from redis.asyncio import Redis

from ferryman.dispatch import keys
from ferryman.dispatch.circuit import Circuit
from ferryman.dispatch.connections import close_client
from ferryman.dispatch.failures import translated

SHORTEST_MS: Final = 10
LONGEST_MS: Final = 1_000


@dataclass(slots=True)
class _Caller:
    has_left: bool = False


class WakeWaiter:
    """Waits for markers. A pop that was sent is never cancelled: redis-py would lose what it pops, or leave
    the answer for the next command. If its caller goes, it ends by itself and puts the marker back.
    """

    def __init__(self, client: Redis, circuit: Circuit) -> None:
        self._client = client
        self._circuit = circuit
        self._pops: set[asyncio.Task[str | None]] = set()

    async def wait(self, queues: Sequence[str], *, at_most_ms: int) -> str | None:
        """The queue that was woken. Raises DispatcherUnavailableError."""
        caller = _Caller()
        pop = asyncio.create_task(self._pop(queues, at_most_ms, caller))
        self._pops.add(pop)
        pop.add_done_callback(self._pops.discard)
        try:
            return await asyncio.shield(pop)
        except asyncio.CancelledError:
            caller.has_left = True
            raise

    async def _pop(self, queues: Sequence[str], at_most_ms: int, caller: _Caller) -> str | None:
        seconds = min(max(at_most_ms, SHORTEST_MS), LONGEST_MS) / 1_000
        wanted = [keys.wake(queue) for queue in queues]
        if not self._circuit.is_closed:
            # A wait would be a slow probe, and hold up all other calls.
            with self._circuit.attempt(), translated():
                await cast("Awaitable[bool]", self._client.ping())
        with self._circuit.attempt(), translated():
            popped = await cast(
                "Awaitable[tuple[bytes, bytes, float] | None]", self._client.bzpopmin(wanted, seconds)
            )
            if popped is None:
                return None
            if caller.has_left:
                await self._client.zadd(popped[0], {popped[1]: 0})
            return keys.queue_of_wake(popped[0].decode())

    async def close(self) -> None:
        """Let the pops end, a second at most, then close their connections."""
        if self._pops:
            await asyncio.wait(self._pops)
        await close_client(self._client)
