"""`ports.Dispatcher` on Redis or Valkey: one server, or a master that sentinels name. Redis Cluster is not
supported: a worker of several queues waits for all of them in one command, and these lie in several slots.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from functools import partial
from typing import Final, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from ferryman.core.job import Position
from ferryman.core.rates import Taken, Toll
from ferryman.dispatch import keys, packing, rates, scripts
from ferryman.dispatch.circuit import Circuit
from ferryman.dispatch.connections import open_client
from ferryman.dispatch.gathering import Gathering
from ferryman.dispatch.link import Link
from ferryman.dispatch.rebuild import configure, rebuild
from ferryman.dispatch.waiting import LONGEST_MS, WakeWaiter
from ferryman.ports import DispatcherUnavailableError, Ended, Place, QueueFigures, QueueRecord, Step

PUT_OFF_MS: Final = 5_000
PLACE_EXPIRES_S: Final = 30
_WAITERS_AT_MOST: Final = 64

_Push = tuple[Sequence[Position], int]


def open_dispatcher(url: str, *, connections: int = 8, timeout_s: float = 1.0) -> RedisDispatcher:
    """A dispatcher that connects at its first call. `timeout_s` bounds each call.

    Raises RedisAddressError (a ValueError) without repeating the address. See `connections.open_client` for
    its forms.
    """
    circuit = Circuit(time.monotonic)
    commands = open_client(url, connections=connections, timeout_s=timeout_s)
    blocking = open_client(url, connections=_WAITERS_AT_MOST, timeout_s=timeout_s + LONGEST_MS / 1_000)
    link = Link(commands, circuit, calls_at_once=connections, timeout_s=timeout_s)
    return RedisDispatcher(link, WakeWaiter(blocking, circuit))


class RedisDispatcher:
    """See `ports.Dispatcher`. Pushes and admissions of concurrent callers share calls."""

    def __init__(self, link: Link, waiter: WakeWaiter) -> None:
        self._link = link
        self._waiter = waiter
        self._pushes: dict[str, Gathering[_Push, None]] = {}
        self._admissions: dict[tuple[str, int], Gathering[int, int]] = {}
        self._tolls: Gathering[Sequence[Toll], list[Taken]] = Gathering(
            partial(rates.take, link), at_most=scripts.AT_ONCE
        )

    async def configure(self, record: QueueRecord) -> None:
        await configure(self._link, record)

    async def forget_queue(self, queue: str) -> None:
        await self._link.run(scripts.FORGET, queue)

    async def admit(self, queue: str, count: int, *, limit: int) -> int:
        """As the port says; raises DispatcherUnavailableError as well while the queue is cold."""
        gathering = self._admissions.get((queue, limit))
        if gathering is None:
            flush = partial(self._admit_all, queue, limit)
            gathering = self._admissions[queue, limit] = Gathering(flush, at_most=scripts.AT_ONCE)
        return await gathering.add(count)

    async def take(self, tolls: Sequence[Toll]) -> list[Taken]:
        return await self._tolls.add(tolls)

    async def push(self, positions: Sequence[Position], *, reserved: int = 0) -> None:
        by_queue: dict[str, list[Position]] = {}
        for position in positions:
            by_queue.setdefault(position.queue, []).append(position)
        for queue, group in by_queue.items():
            await self._pushing(queue).add((group, reserved))
            reserved = 0

    async def step(
        self,
        queue: str,
        *,
        ended: Sequence[Ended],
        tokens: Sequence[UUID],
        lease_ms: int,
        types: Sequence[str] = (),
    ) -> Step:
        claimed: list[tuple[UUID, UUID]] = []
        at_once = scripts.AT_ONCE
        for start in range(0, max(1, len(ended), len(tokens)), at_once):
            part = tokens[start : start + at_once]
            answer = await self._link.run(
                scripts.STEP,
                queue,
                lease_ms,
                *packing.ended(ended[start : start + at_once]),
                packing.join(part),
                packing.types(types),
            )
            more, due_in_ms, paused, cold, ids = answer
            claimed += zip(packing.split(ids), part, strict=False)
        return Step(
            claimed=claimed,
            more=bool(more),
            due_in_ms=None if due_in_ms < 0 else due_in_ms,
            paused=bool(paused),
            cold=bool(cold),
        )

    async def wait_for_work(self, queues: Sequence[str], *, at_most_ms: int) -> str | None:
        return await self._waiter.wait(queues, at_most_ms=at_most_ms)

    async def beat(self, queue: str, held: Sequence[tuple[UUID, UUID, str, int]]) -> list[UUID]:
        asked: list[UUID] = []
        for chunk in packing.chunks(held):
            asked += packing.split(await self._link.run(scripts.BEAT, queue, *packing.held(chunk)))
        return asked

    async def ask_to_stop(self, queue: str, job_id: UUID) -> None:
        await self._link.run(scripts.STOP, queue, job_id.bytes)

    async def overdue(self, queue: str, *, limit: int) -> list[tuple[UUID, UUID]]:
        """As the port says, 100 at most."""
        named = await self._link.run(scripts.REAP, queue, min(limit, scripts.AT_ONCE), PUT_OFF_MS)
        flat = packing.split(named)
        return list(zip(flat[::2], flat[1::2], strict=True))

    async def missing(self, positions: Sequence[Position]) -> list[Position]:
        by_queue: dict[str, list[Position]] = {}
        for position in positions:
            if position.kind == "waiting":
                by_queue.setdefault(position.queue, []).append(position)
        nowhere: list[Position] = []
        for queue, group in by_queue.items():
            for chunk in packing.chunks(group):
                numbers = await self._link.run(scripts.MISSING, queue, *packing.whereabouts(chunk))
                nowhere += [chunk[number - 1] for number in numbers]
        return nowhere

    async def figures(self, queue: str, *, tenant_id: str | None) -> QueueFigures | None:
        cold, pending, scheduled, retrying, running = await self._link.run(
            scripts.STATS, queue, tenant_id or ""
        )
        if cold:
            return None
        return QueueFigures(pending=pending, scheduled=scheduled, retrying=retrying, running=running)

    async def place_of(self, queue: str, tenant_id: str, job_id: UUID) -> Place | None:
        answer = await self._link.run(scripts.EXPLAIN, queue, job_id.bytes, tenant_id)
        return packing.place(answer)

    async def is_cold(self, queue: str) -> bool:
        return not await self._link.ask(
            lambda client: cast("Awaitable[bool]", client.hexists(keys.meta(queue), "epoch"))
        )

    async def rebuild(self, record: QueueRecord, pages: AsyncIterator[Sequence[Position]]) -> int:
        return await rebuild(self._link, record, pages)

    async def ping(self) -> Mapping[str, object]:
        """`version`, `maxmemory_policy`, `used_memory` in bytes (None where INFO is forbidden), and
        `evicting`: whether the policy may take our keys. None of them expires but buckets of tokens, so the
        `volatile-` policies spare them.
        """
        return await self._link.ask(_ping)

    async def close(self) -> None:
        await self._waiter.close()
        await self._link.close()

    def _pushing(self, queue: str) -> Gathering[_Push, None]:
        if queue not in self._pushes:
            flush = partial(self._push_all, queue)
            self._pushes[queue] = Gathering(flush, at_most=scripts.AT_ONCE)
        return self._pushes[queue]

    async def _push_all(self, queue: str, pushes: Sequence[_Push]) -> list[None]:
        positions = [position for group, _ in pushes for position in group]
        reserved = sum(places for _, places in pushes)
        for chunk in packing.chunks(positions):
            await self._link.run(scripts.PUSH, queue, "", reserved, *packing.positions(chunk))
            reserved = 0
        return [None] * len(pushes)

    async def _admit_all(self, queue: str, limit: int, wanted: Sequence[int]) -> list[int]:
        granted = await self._link.run(scripts.ADMIT, queue, sum(wanted), limit, PLACE_EXPIRES_S)
        if granted < 0:
            raise DispatcherUnavailableError("Redis does not know this queue yet")
        shares: list[int] = []
        for count in wanted:
            shares.append(min(count, granted))
            granted -= shares[-1]
        return shares


async def _ping(client: Redis) -> Mapping[str, object]:
    try:
        info: Mapping[str, object] = await client.info()
    except NoPermissionError:
        await cast("Awaitable[bool]", client.ping())
        info = {}
    policy = info.get("maxmemory_policy")
    return {
        "version": info.get("valkey_version") or info.get("redis_version"),
        "maxmemory_policy": policy,
        "used_memory": info.get("used_memory"),
        "evicting": str(policy).startswith("allkeys"),
    }
