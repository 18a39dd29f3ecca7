"""Filling slots: from Redis, from the ledger when Redis cannot help, and putting right what was refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from ferryman import JobContext
from ferryman.core.job import Position
from ferryman.core.verdict import Complete
from ferryman.ports import LedgerUnavailableError
from ferryman.worker.resync import PUT_OFF_MS
from tests.support.fake_stores import make_claimed
from tests.unit.test_worker_executor import Rig, rigged


async def work(ctx: JobContext) -> None: ...


def offer(rig: Rig, count: int) -> list[Any]:
    """Jobs that Redis suggests and the ledger lets be claimed."""
    jobs = [make_claimed() for _ in range(count)]
    rig.ledger.claims |= {job.id: job for job in jobs}
    rig.dispatcher.ready += [job.id for job in jobs]
    return jobs


async def until(rig: Rig, holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await rig.crew.pulse.next()


async def test_free_slots_are_filled_and_ends_released() -> None:
    async with rigged(work=work) as rig:
        jobs = offer(rig, 20)
        while len(rig.ledger.settled) < 20:
            await rig.crew.cycle(may_end=False)
        while rig.crew.releases.has_any:
            await rig.crew.claimer.run_once()
        assert {one.job_id for one in rig.dispatcher.ended} == {job.id for job in jobs}
        assert {one.token for one in rig.dispatcher.ended} == {job.token for job in jobs}
        assert rig.metrics.value("ferryman_jobs_claimed_total", queue="default") == 20


async def test_no_more_is_asked_for_than_there_are_slots() -> None:
    release = asyncio.Event()

    async def waiting(ctx: JobContext) -> None:
        await release.wait()

    async with rigged(work=waiting) as rig:
        offer(rig, 20)
        await rig.crew.claimer.run_once()
        await until(rig, lambda: not rig.crew.claimer.in_flight)
        assert rig.crew.executor.busy == 8
        assert len(rig.dispatcher.ready) == 12
        assert rig.crew.claimer.free == 0
        release.set()
        await rig.settled(8)


async def test_a_draining_worker_claims_nothing_until_it_is_taken_back() -> None:
    async with rigged(work=work) as rig:
        offer(rig, 1)
        rig.crew.drain.ask(True)
        await rig.crew.claimer.run_once()
        assert rig.crew.state == "drained"
        assert len(rig.dispatcher.ready) == 1
        rig.crew.drain.ask(False)
        await rig.crew.claimer.run_once()
        await rig.settled()
        assert rig.crew.drain.may_claim


async def test_a_refused_claim_is_resynced_and_put_off() -> None:
    async with rigged(work=work) as rig:
        waiting, unknown, ended = uuid4(), uuid4(), uuid4()
        rig.dispatcher.ready = [waiting, unknown, ended]
        for job_id, job_type in ((waiting, "work"), (unknown, "other")):
            rig.ledger.places[job_id] = Position(
                id=job_id, queue="default", tenant_id="acme", kind="waiting", score=5.0, type=job_type
            )
        await rig.crew.claimer.run_once()
        await until(rig, lambda: not rig.crew.claimer.in_flight)
        await rig.crew.claimer.run_once()
        pushed = {position.id: position for position in rig.dispatcher.pushed}
        assert (pushed[waiting].put_off, pushed[waiting].due_in_ms) == ("for_a_while", PUT_OFF_MS)
        assert (pushed[unknown].put_off, pushed[unknown].type) == ("by_type", "other")
        assert pushed[waiting].score == 5.0
        assert pushed[ended].kind == "gone"
        assert rig.metrics.value("ferryman_refused_claims_total", queue="default") == 3
        assert rig.crew.claimer.free == 8


async def test_with_redis_away_the_ledger_gives_the_jobs() -> None:
    async with rigged(work=work) as rig:
        rig.dispatcher.is_away = True
        rig.ledger.ready = [make_claimed() for _ in range(3)]
        await rig.crew.claimer.run_once()  # meets the outage
        await rig.crew.claimer.run_once()
        await rig.settled(3)
        assert rig.metrics.value("ferryman_ledger_only_claims_total", queue="default") == 3
        await rig.idle()
        assert rig.crew.releases.has_any
        assert rig.dispatcher.ended == []
        rig.crew.claimer._link._task.cancel()  # type: ignore[union-attr]


async def test_a_cold_queue_is_served_by_the_ledger() -> None:
    async with rigged(work=work) as rig:
        rig.dispatcher.is_cold = True
        rig.ledger.ready = [make_claimed()]
        await rig.crew.claimer.run_once()
        await rig.settled()


async def test_ids_whose_claim_is_in_doubt_are_resynced_once_the_ledger_is_back() -> None:
    async with rigged(work=work) as rig:
        (job,) = offer(rig, 1)
        rig.ledger.is_away = True
        await rig.crew.claimer.run_once()
        await until(rig, lambda: not rig.crew.claimer.in_flight)
        assert rig.crew.claimer.free == 0  # claims nothing while the ledger is away
        rig.ledger.is_away = False
        while not rig.dispatcher.pushed:
            await rig.crew.cycle(may_end=False)
        assert [position.id for position in rig.dispatcher.pushed] == [job.id]
        assert rig.crew.claimer.free == 8


async def test_an_unforeseen_error_of_a_claim_takes_no_slot_with_it() -> None:
    async with rigged(work=work) as rig:
        offer(rig, 1)

        async def breaking(*_: Any, **__: Any) -> Any:
            raise ValueError("nobody foresaw this")

        claim, rig.ledger.claim = rig.ledger.claim, breaking  # type: ignore[method-assign]
        await rig.crew.claimer.run_once()
        await until(rig, lambda: not rig.crew.claimer.in_flight)
        rig.ledger.claim = claim  # type: ignore[method-assign]
        while not rig.dispatcher.pushed:
            await rig.crew.cycle(may_end=False)
        assert rig.crew.claimer.free == 8


async def test_a_retried_job_is_released_before_it_is_pushed() -> None:
    async def failing(ctx: JobContext) -> None:
        raise ConnectionError

    async with rigged(work=failing) as rig:
        (job,) = offer(rig, 1)
        rig.ledger.places[job.id] = Position(
            id=job.id, queue="default", tenant_id="acme", kind="waiting", due_in_ms=1_000, retrying=True
        )
        order: list[str] = []
        step, push = rig.dispatcher.step, rig.dispatcher.push

        async def noting_step(queue: str, **given: Any) -> Any:
            order.extend("released" for _ in given["ended"])
            return await step(queue, **given)

        async def noting_push(positions: Any, **given: Any) -> None:
            order.extend("pushed" for _ in positions)
            await push(positions, **given)

        rig.dispatcher.step, rig.dispatcher.push = noting_step, noting_push  # type: ignore[method-assign]
        while not rig.dispatcher.pushed:
            await rig.crew.cycle(may_end=False)
        assert order == ["released", "pushed"]


async def test_nothing_is_claimed_while_the_ledger_does_not_take_what_was_done() -> None:
    async with rigged(work=work) as rig:
        rig.ledger.is_away = True
        for _ in range(1_000):
            rig.crew.executor.start(make_claimed())
        await until(rig, lambda: rig.crew.executor.busy == 0)
        assert rig.crew.claimer.free == 0
        rig.ledger.is_away = False
        await rig.settled(1_000)
        assert all(one.verdict == Complete(b"{}") for one in rig.ledger.settled)
        await rig.idle()
        assert rig.crew.claimer.free == 8


async def test_queues_take_turns() -> None:
    async with rigged(work=work) as rig:
        rig.crew.book._wanted = ("default", "b", "c")
        rig.ledger.records |= dict.fromkeys("bc", rig.ledger.records["default"])
        await rig.crew.book.refresh()
        first = [rig.crew.claimer._rotation(None)[0] for _ in range(6)]
        assert sorted(first) == ["b", "b", "c", "c", "default", "default"]
        assert rig.crew.claimer._rotation("c") == ["c", "default", "b"]


async def test_settings_hold_while_the_ledger_is_away() -> None:
    async with rigged(work=work) as rig:
        rig.ledger.is_away = True
        try:
            await rig.crew.book.refresh()
        except LedgerUnavailableError:
            assert rig.crew.book.known == ["default"]
