"""How many jobs a second can be handed over: one caller, 50 callers, in bulk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.measured import Trial, Values
from tests.benchmarks.payload import compact
from tests.benchmarks.rest import body
from tests.benchmarks.sizes import BULK, GROUP_CONNECTIONS

ONE = "enqueue, one caller"
FIFTY = "enqueue, 50 callers"
MANY = f"enqueue, {GROUP_CONNECTIONS} callers"
BULK_ONE = f"enqueue, bulk of {BULK}"
BULK_FOUR = f"enqueue, bulk of {BULK}, 4 callers"

REST, DIRECT, ARQ, PGQUEUER = "Ferryman REST", "Ferryman direct", "arq", "pgqueuer"
BARE, GROUP = "bare INSERT", "bare group commit"


def _rest(connections: int, bulk: int = 1) -> Callable[[Bench], Awaitable[Values]]:
    async def run(bench: Bench) -> Values:
        async with bench.api() as rest:
            return await rest.load(connections, bulk=bulk)

    return run


def _calls(**plan: Any) -> Callable[[Bench], Awaitable[Values]]:
    async def run(bench: Bench) -> Values:
        return await bench.call(**plan)

    return run


def _direct(**plan: Any) -> Callable[[Bench], Awaitable[Values]]:
    async def run(bench: Bench) -> Values:
        async with bench.api():
            pass  # which made the queue
        return await bench.call(subject="ferryman", **plan)

    return run


def _bare(path: str) -> Callable[[Bench], Awaitable[Values]]:
    async def run(bench: Bench) -> Values:
        async with bench.baseline() as port:
            return await bench.http(
                port=port, path=path, token="-", body=compact(body()).decode(), connections=GROUP_CONNECTIONS
            )

    return run


TRIALS = (
    Trial(ONE, REST, _rest(1)),
    Trial(ONE, DIRECT, _direct(callers=1)),
    Trial(ONE, ARQ, _calls(subject="arq", callers=1)),
    Trial(ONE, PGQUEUER, _calls(subject="pgqueuer", callers=1)),
    Trial(FIFTY, REST, _rest(50)),
    Trial(FIFTY, DIRECT, _direct(callers=50)),
    Trial(FIFTY, ARQ, _calls(subject="arq", callers=50)),
    Trial(FIFTY, PGQUEUER, _calls(subject="pgqueuer", callers=50)),
    Trial(MANY, REST, _rest(GROUP_CONNECTIONS)),
    Trial(MANY, BARE, _bare("/one")),
    Trial(MANY, GROUP, _bare("/group")),
    Trial(BULK_ONE, REST, _rest(1, BULK)),
    Trial(BULK_ONE, DIRECT, _direct(callers=1, bulk=BULK)),
    Trial(BULK_ONE, PGQUEUER, _calls(subject="pgqueuer", callers=1, bulk=BULK)),
    Trial(BULK_FOUR, REST, _rest(4, BULK)),
    Trial(BULK_FOUR, PGQUEUER, _calls(subject="pgqueuer", callers=4, bulk=BULK)),
)
