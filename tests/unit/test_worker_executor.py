"""An attempt's way through the executor: how handlers end, and what becomes of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from ferryman import (
    BusinessError,
    JobContext,
    PermanentError,
    PlatformError,
    Registry,
    RetryAfter,
    Snooze,
    TransientError,
)
from ferryman.core.failures import ErrorClass
from ferryman.core.job import Claimed, Settlement
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt
from ferryman.telemetry.metrics import Metrics
from ferryman.wiring import SystemClock
from ferryman.worker import executor as executor_module
from ferryman.worker.attempt import Attempt, Stop
from ferryman.worker.crew import Crew, Outside
from ferryman.worker.lease import Identity
from tests.support.fake_stores import FakeDispatcher, FakeLedger, make_claimed

Handler = Callable[..., Any]


class Rig:
    """A crew on fakes, without a heartbeat."""

    def __init__(self, **handlers: Handler) -> None:
        registry = Registry()
        for name, function in handlers.items():
            registry.handler(name)(function)
        self.ledger = FakeLedger()
        self.dispatcher = FakeDispatcher()
        self.metrics = Metrics()
        outside = Outside(
            ledger=self.ledger.port,
            dispatcher=self.dispatcher.port,
            open_ledger=None,  # type: ignore[arg-type]
            open_dispatcher=None,  # type: ignore[arg-type]
            clock=SystemClock(),
            dice=lambda: 0.5,
            metrics=self.metrics,
        )
        identity = Identity(worker_id="w1", pod="p", queues=["default"], types=sorted(handlers), slots=8)
        self.crew = Crew(identity, outside, registry.handlers)

    async def settled(self, count: int = 1) -> list[Settlement]:
        async with asyncio.timeout(10):
            while len(self.ledger.settled) < count:
                await self.crew.pulse.next()
        return self.ledger.settled

    async def idle(self) -> None:
        async with asyncio.timeout(10):
            while not self.crew.executor.is_idle:
                await self.crew.pulse.next()

    def start(self, claimed: Claimed) -> Attempt:
        self.crew.executor.start(claimed)
        return self.crew.executor.held[claimed.token]


@asynccontextmanager
async def rigged(**handlers: Handler) -> AsyncIterator[Rig]:
    rig = Rig(**handlers)
    await rig.crew.book.refresh()
    flushing = asyncio.create_task(rig.crew.settler.run())
    try:
        yield rig
    finally:
        flushing.cancel()
        rig.crew.executor.close()


async def end_of(function: Handler, document: Any = None, **fields: Any) -> Settlement:
    """How one attempt of this handler is settled."""
    async with rigged(work=function) as rig:
        rig.start(make_claimed(input=msgspec.json.encode(document or {}), **fields))
        (settlement,) = await rig.settled()
        await rig.idle()
        assert rig.crew.executor.busy == 0
        assert not rig.crew.executor.held
        return settlement


async def test_a_result_completes_the_job() -> None:
    async def work(ctx: JobContext, message: str) -> dict[str, str]:
        return {"reply": message.upper()}

    settlement = await end_of(work, {"message": "hello"}, wait_ms=7)
    assert settlement.verdict == Complete(b'{"reply":"HELLO"}')
    assert settlement.wait_ms == 7
    assert settlement.max_retries == 3


@pytest.mark.parametrize(
    ("error", "verdict", "error_class"),
    [
        (TransientError("t"), RetryAt, ErrorClass.TRANSIENT),
        (ConnectionError("c"), RetryAt, ErrorClass.TRANSIENT),
        (KeyError("unknown"), RetryAt, ErrorClass.TRANSIENT),
        (asyncio.CancelledError(), RetryAt, ErrorClass.TRANSIENT),
        (SystemExit(3), RetryAt, ErrorClass.TRANSIENT),
        (KeyboardInterrupt(), RetryAt, ErrorClass.TRANSIENT),
        (GeneratorExit(), RetryAt, ErrorClass.TRANSIENT),
        (TimeoutError("own"), RetryAt, ErrorClass.TIMEOUT),
        (MemoryError(), RetryAt, ErrorClass.SYSTEM),
        (SystemError(), RetryAt, ErrorClass.SYSTEM),
        (PlatformError("p"), RetryAt, ErrorClass.SYSTEM),
        (PermanentError("p"), DeadLetter, ErrorClass.PERMANENT),
        (BusinessError("b"), DeadLetter, ErrorClass.BUSINESS),
    ],
)
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_an_exception_is_judged_by_its_class(
    error: BaseException, verdict: type[Any], error_class: ErrorClass, kind: str
) -> None:
    async def coroutine(ctx: JobContext) -> None:
        raise error

    def function(ctx: JobContext) -> None:
        raise error

    settlement = await end_of(coroutine if kind == "async" else function)
    assert isinstance(settlement.verdict, verdict)
    assert settlement.verdict.failure.error_class is error_class


async def test_a_spent_budget_ends_in_a_dead_letter() -> None:
    async def work(ctx: JobContext) -> None:
        raise TransientError("again")

    settlement = await end_of(work, failures=3)
    assert isinstance(settlement.verdict, DeadLetter)


async def test_a_handler_may_choose_the_delay() -> None:
    async def later(ctx: JobContext) -> None:
        raise RetryAfter(1_234)

    async def snoozing(ctx: JobContext) -> None:
        raise Snooze(4_321)

    retried = (await end_of(later)).verdict
    assert isinstance(retried, RetryAt)
    assert retried.delay_ms == 1_234
    assert (await end_of(snoozing)).verdict == Reschedule(4_321, "snoozed")


async def test_an_input_that_does_not_fit_is_a_dead_letter() -> None:
    async def work(ctx: JobContext, user: str) -> None: ...

    verdict = (await end_of(work, {"usr": 1})).verdict
    assert isinstance(verdict, DeadLetter)
    assert verdict.failure.error_class is ErrorClass.VALIDATION
    assert verdict.failure.message == "input.user is missing; input.usr is not known to the handler"


async def test_a_result_that_cannot_be_kept_is_a_dead_letter() -> None:
    async def work(ctx: JobContext) -> object:
        return {"text": "a\x00b"}

    verdict = (await end_of(work)).verdict
    assert isinstance(verdict, DeadLetter)
    assert verdict.failure.error_class is ErrorClass.VALIDATION


async def test_a_handler_out_of_time_is_stopped() -> None:
    async def work(ctx: JobContext) -> None:
        await asyncio.Event().wait()

    verdict = (await end_of(work, timeout_ms=20)).verdict
    assert isinstance(verdict, RetryAt)
    assert verdict.failure.error_class is ErrorClass.TIMEOUT
    assert verdict.failure.message == "it ran longer than its 20 ms"


async def test_what_a_stopped_handler_returns_comes_too_late() -> None:
    async def work(ctx: JobContext) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "swallowed"
        return "never"

    verdict = (await end_of(work, timeout_ms=20)).verdict
    assert isinstance(verdict, RetryAt)
    assert verdict.failure.error_class is ErrorClass.TIMEOUT


async def test_a_sync_handler_learns_of_its_end_from_the_context() -> None:
    def work(ctx: JobContext) -> None:
        while not ctx.cancelled:
            threading.Event().wait(0.001)

    verdict = (await end_of(work, timeout_ms=20)).verdict
    assert isinstance(verdict, RetryAt)
    assert verdict.failure.error_class is ErrorClass.TIMEOUT


@pytest.mark.parametrize(
    ("reason", "verdict"), [(Stop.CANCELLED, Cancel()), (Stop.INTERRUPTED, Reschedule(0, "released"))]
)
async def test_a_running_handler_is_told_to_stop(reason: Stop, verdict: Any) -> None:
    running = asyncio.Event()

    async def work(ctx: JobContext) -> None:
        running.set()
        await asyncio.Event().wait()

    async with rigged(work=work) as rig:
        attempt = rig.start(make_claimed())
        await running.wait()
        rig.crew.stop(attempt, reason)
        (settlement,) = await rig.settled()
        assert settlement.verdict == verdict


async def test_an_attempt_that_is_stopped_before_its_first_step_never_starts() -> None:
    async def work(ctx: JobContext) -> None:
        raise AssertionError("it started")

    async with rigged(work=work) as rig:
        rig.crew.stop(rig.start(make_claimed()), Stop.CANCELLED)
        (settlement,) = await rig.settled()
        assert settlement.verdict == Cancel()


async def test_a_lost_lease_leaves_nothing_to_record() -> None:
    running, stopped = asyncio.Event(), asyncio.Event()

    async def work(ctx: JobContext) -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with rigged(work=work) as rig:
        attempt = rig.start(make_claimed())
        await running.wait()
        rig.crew.stop(attempt, Stop.LOST)
        await stopped.wait()
        await rig.idle()
        assert rig.ledger.settled == []
        assert rig.metrics.value("ferryman_fenced_writes_total") == 1


async def test_an_end_that_was_fenced_is_counted_and_put_right() -> None:
    async def work(ctx: JobContext) -> None: ...

    async with rigged(work=work) as rig:
        claimed = make_claimed()
        rig.ledger.lost.add(claimed.id)
        rig.start(claimed)
        await rig.idle()
        assert rig.metrics.value("ferryman_fenced_writes_total") == 1
        await rig.crew.claimer.run_once()
        assert [position.id for position in rig.dispatcher.pushed] == [claimed.id]
        assert rig.dispatcher.ended == []


async def test_a_handler_that_will_not_stop_is_fenced_and_keeps_its_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(executor_module, "FENCE_GRACE_S", 0.02)
    release = asyncio.Event()

    async def stubborn(ctx: JobContext) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with rigged(work=stubborn) as rig:
        rig.start(make_claimed(timeout_ms=10))
        (settlement,) = await rig.settled()
        assert isinstance(settlement.verdict, RetryAt)
        executor = rig.crew.executor
        await rig.idle()
        assert (executor.zombies, executor.busy) == (1, 1)
        assert rig.metrics.value("ferryman_zombie_attempts_total") == 1
        release.set()
        while executor.busy:
            await rig.crew.pulse.next()
        assert executor.zombies == 0
        assert len(rig.ledger.settled) == 1


async def test_three_zombies_wear_the_worker_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "FENCE_GRACE_S", 0.02)
    release = threading.Event()

    def stuck(ctx: JobContext) -> None:
        release.wait(20)

    async def work(ctx: JobContext) -> None:
        await other.wait()

    other = asyncio.Event()
    async with rigged(stuck=stuck, work=work) as rig:
        try:
            rig.start(make_claimed())
            for _ in range(3):
                rig.start(make_claimed(type="stuck", timeout_ms=10))
            await rig.settled(3)
            assert rig.crew.claimer.free == 0
            assert (rig.crew.state, rig.crew.is_done) == ("draining", False)
            other.set()
            await rig.idle()
            assert (rig.crew.state, rig.crew.is_done) == ("drained", True)
        finally:
            release.set()
        while rig.crew.executor.zombies:
            await rig.crew.pulse.next()


async def test_a_suspect_waits_for_its_neighbours_and_runs_alone() -> None:
    neighbour, seen = asyncio.Event(), asyncio.Event()
    alone_with: list[int] = []

    async def work(ctx: JobContext) -> None:
        seen.set()
        await neighbour.wait()

    async def suspect(ctx: JobContext) -> None:
        alone_with.append(rig.crew.executor.busy)

    async with rigged(work=work, suspect=suspect) as rig:
        rig.start(make_claimed())
        first, second = (make_claimed(type="suspect", crashes=2) for _ in range(2))
        rig.start(first)
        rig.start(second)
        await seen.wait()
        assert rig.crew.claimer.free == 0
        assert rig.crew.executor.busy == 3
        assert rig.ledger.isolated == []
        neighbour.set()
        await rig.settled(3)
        await rig.idle()
        assert rig.ledger.isolated == [first.id, second.id]
        assert alone_with == [2, 1]  # the second one waits, and has not started
        while rig.crew.executor.quarantine.is_closed:
            await rig.crew.pulse.next()
        assert rig.crew.claimer.free == 8


async def test_a_suspect_that_is_stopped_while_it_waits_is_given_back() -> None:
    neighbour = asyncio.Event()

    async def work(ctx: JobContext) -> None:
        await neighbour.wait()

    async with rigged(work=work) as rig:
        rig.start(make_claimed())
        suspect = rig.start(make_claimed(crashes=2))
        rig.crew.stop(suspect, Stop.INTERRUPTED)
        (settlement,) = await rig.settled()
        assert settlement.verdict == Reschedule(0, "released")
        assert settlement.run_ms == 0
        neighbour.set()
        await rig.settled(2)


async def test_an_outage_of_the_ledger_is_waited_out() -> None:
    async def work(ctx: JobContext) -> None: ...

    async with rigged(work=work) as rig:
        rig.ledger.is_away = True
        attempt = rig.start(make_claimed())
        while rig.crew.executor.busy:
            await rig.crew.pulse.next()
        await rig.crew.pulse.next()  # one flush has failed
        assert attempt.claimed.token in rig.crew.executor.held
        rig.ledger.is_away = False
        await rig.settled()
        await rig.idle()
        assert not rig.crew.executor.held


async def test_one_end_that_breaks_the_statement_does_not_hold_up_the_others() -> None:
    async def work(ctx: JobContext) -> None: ...

    async with rigged(work=work) as rig:
        guilty = make_claimed()
        settle = rig.ledger.settle

        async def breaking(worker_id: str, settlements: Any) -> Any:
            if any(one.id == guilty.id for one in settlements):
                raise ValueError("nobody foresaw this")
            return await settle(worker_id, settlements)

        rig.ledger.settle = breaking  # type: ignore[method-assign]
        for claimed in [make_claimed(), guilty, make_claimed(), make_claimed()]:
            rig.start(claimed)
        await rig.settled(3)
        await rig.idle()
        assert guilty.id not in {one.id for one in rig.ledger.settled}
