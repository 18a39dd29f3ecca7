"""Items that come while a call is under way go together with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ferryman.dispatch.gathering import Gathering


class Recorder:
    """Answers each item with ten times its value, once the test opens the gate."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        self.called.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return [item * 10 for item in items]


async def test_callers_of_one_moment_share_a_call_and_get_their_own_answers() -> None:
    flush = Recorder()
    flush.gate.set()
    gathering = Gathering(flush, at_most=100)
    assert await asyncio.gather(*(gathering.add(n) for n in range(5))) == [0, 10, 20, 30, 40]
    assert flush.calls == [[0, 1, 2, 3, 4]]


async def test_what_comes_during_a_call_waits_for_the_next_one() -> None:
    flush = Recorder()
    gathering = Gathering(flush, at_most=100)
    first = asyncio.create_task(gathering.add(1))
    await flush.called.wait()
    others = [asyncio.create_task(gathering.add(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    flush.gate.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30]
    assert flush.calls == [[1], [2, 3]]


async def test_a_call_takes_no_more_than_it_may() -> None:
    flush = Recorder()
    flush.gate.set()
    gathering = Gathering(flush, at_most=2)
    await asyncio.gather(*(gathering.add(n) for n in range(5)))
    assert flush.calls == [[0, 1], [2, 3], [4]]


async def test_an_error_goes_to_those_whose_call_it_was() -> None:
    flush = Recorder()
    flush.gate.set()
    flush.error = ValueError("no")
    gathering = Gathering(flush, at_most=100)
    answers = await asyncio.gather(gathering.add(1), gathering.add(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError]
    flush.error = None
    assert await gathering.add(3) == 30


async def test_a_caller_that_leaves_does_not_disturb_the_others() -> None:
    flush = Recorder()
    gathering = Gathering(flush, at_most=100)
    leaving, staying = (asyncio.create_task(gathering.add(n)) for n in (1, 2))
    await flush.called.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    flush.gate.set()
    assert await staying == 20
