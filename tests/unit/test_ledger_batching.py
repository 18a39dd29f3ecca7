"""Natural batches: what gathers while a flush runs goes with the next one."""

import asyncio
from collections.abc import Sequence

import pytest

from ferryman.ledger import batching
from ferryman.ledger.batching import Batcher
from ferryman.ports import LedgerUnavailableError


class Gate:
    """A flush that answers when it is opened, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.entered = asyncio.Event()

    async def flush(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        self.entered.set()
        await self.open.wait()
        return [ValueError(str(item)) if item < 0 else item * 10 for item in items]


def batcher(gate: Gate, *, max_batch: int = 100, max_waiting: int = 100, lanes: int = 1) -> Batcher[int, int]:
    return Batcher(gate.flush, max_batch=max_batch, max_waiting=max_waiting, lanes=lanes)


async def test_an_idle_batcher_waits_for_nothing_and_a_busy_one_gathers() -> None:
    gate = Gate()
    subject = batcher(gate)
    first = asyncio.create_task(subject.submit(1))
    await gate.entered.wait()
    others = [asyncio.create_task(subject.submit(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert gate.batches == [[1], [2, 3, 4]]


@pytest.mark.parametrize("lanes", [1, 2])
async def test_who_submits_again_at_once_is_not_forgotten(lanes: int) -> None:
    gate = Gate()
    gate.open.set()
    subject = batcher(gate, lanes=lanes)

    async def call_on(number: int) -> None:
        for _ in range(20):
            assert await subject.submit(number) == number * 10

    async with asyncio.timeout(5):
        await asyncio.gather(call_on(1), call_on(2), call_on(3))


async def test_callers_of_one_turn_share_a_batch() -> None:
    gate = Gate()
    gate.open.set()
    subject = batcher(gate, max_batch=4)
    assert await asyncio.gather(*(subject.submit(number) for number in range(6))) == [0, 10, 20, 30, 40, 50]
    assert gate.batches == [[0, 1, 2, 3], [4, 5]]


async def test_lanes_flush_side_by_side() -> None:
    gate = Gate()
    subject = batcher(gate, max_batch=1, lanes=2)
    tasks = [asyncio.create_task(subject.submit(number)) for number in (1, 2, 3)]
    while len(gate.batches) < 2:
        await asyncio.sleep(0)
    assert gate.batches == [[1], [2]]
    gate.open.set()
    await asyncio.gather(*tasks)
    await subject.drain()
    assert gate.batches == [[1], [2], [3]]


async def test_each_hears_its_own_error() -> None:
    gate = Gate()
    gate.open.set()
    subject = batcher(gate)
    good, bad = await asyncio.gather(subject.submit(1), subject.submit(-1), return_exceptions=True)
    assert good == 10
    assert isinstance(bad, ValueError)


async def test_an_error_of_the_flush_reaches_everybody() -> None:
    async def flush(items: Sequence[int]) -> Sequence[int | Exception]:
        raise LedgerUnavailableError("away")

    subject: Batcher[int, int] = Batcher(flush, max_batch=10, max_waiting=10, lanes=1)
    answers = await asyncio.gather(subject.submit(1), subject.submit(2), return_exceptions=True)
    assert all(isinstance(answer, LedgerUnavailableError) for answer in answers)


async def test_too_many_are_refused_at_once() -> None:
    gate = Gate()
    subject = batcher(gate, max_batch=1, max_waiting=2)
    first = asyncio.create_task(subject.submit(1))
    await gate.entered.wait()
    waiting = [asyncio.create_task(subject.submit(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailableError):
        await subject.submit(4)
    gate.open.set()
    assert await asyncio.gather(first, *waiting) == [10, 20, 30]


async def test_who_has_gone_is_left_out() -> None:
    gate = Gate()
    subject = batcher(gate)
    first = asyncio.create_task(subject.submit(1))
    await gate.entered.wait()
    gone, kept = asyncio.create_task(subject.submit(2)), asyncio.create_task(subject.submit(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert [await first, await kept] == [10, 30]
    assert gate.batches == [[1], [3]]


async def test_who_waited_too_long_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    subject = batcher(gate)
    first = asyncio.create_task(subject.submit(1))
    await gate.entered.wait()
    late = asyncio.create_task(subject.submit(2))
    await asyncio.sleep(0)
    monkeypatch.setattr(batching, "PATIENCE_SECONDS", -1.0)
    gate.open.set()
    assert await first == 10
    with pytest.raises(LedgerUnavailableError):
        await late
    assert gate.batches == [[1]]
