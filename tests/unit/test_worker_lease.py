"""What the heartbeat says, and what it does with the answers."""

from __future__ import annotations

import asyncio

from ferryman import JobContext
from ferryman.core.verdict import Cancel
from ferryman.worker.attempt import Stop
from ferryman.worker.lease import LeaseKeeper
from tests.support.fake_stores import make_claimed
from tests.unit.test_worker_executor import Rig, rigged


async def waiting(ctx: JobContext) -> None:
    await asyncio.Event().wait()


async def work(ctx: JobContext) -> None: ...


async def answered(rig: Rig) -> LeaseKeeper:
    """One beat to each side, and its answers heard."""
    keeper = rig.crew.keeper
    await keeper.beat_ledger(rig.ledger.port)
    await keeper.beat_redis(rig.dispatcher.port)
    await asyncio.sleep(0)
    return keeper


async def test_a_beat_names_the_worker_and_its_leases() -> None:
    async with rigged(waiting=waiting) as rig:
        claimed = make_claimed(type="waiting", visibility_timeout_ms=600)
        attempt = rig.start(claimed)
        await asyncio.sleep(0)
        keeper = await answered(rig)
        beat = rig.ledger.beats[-1]
        assert (beat.worker_id, beat.pod, beat.slots, beat.busy, beat.state) == ("w1", "p", 8, 1, "running")
        assert beat.types == ["waiting"]
        assert beat.held == [(claimed.id, claimed.token)]
        assert rig.dispatcher.beats == [(claimed.id, claimed.token, "acme", 600)]
        assert keeper.interval_s == 0.2
        await keeper.registered()
        rig.ledger.cancelled.add(claimed.id)
        await answered(rig)
        (settlement,) = await rig.settled()
        assert settlement.verdict == Cancel()
        assert attempt.recorded


async def test_redis_may_ask_to_stop_too() -> None:
    async with rigged(waiting=waiting) as rig:
        claimed = make_claimed(type="waiting")
        rig.start(claimed)
        await asyncio.sleep(0)
        rig.dispatcher.asked = [claimed.id]
        await answered(rig)
        (settlement,) = await rig.settled()
        assert settlement.verdict == Cancel()


async def test_a_lost_lease_ends_the_attempt() -> None:
    async with rigged(waiting=waiting) as rig:
        claimed = make_claimed(type="waiting")
        rig.start(claimed)
        await asyncio.sleep(0)
        rig.ledger.lost.add(claimed.id)
        await answered(rig)
        await rig.idle()
        assert rig.ledger.settled == []


async def test_an_end_that_is_not_flushed_keeps_its_lease_and_a_hung_handler_does_not() -> None:
    async with rigged(waiting=waiting, work=work) as rig:
        rig.ledger.is_away = True
        ended, hung = make_claimed(), make_claimed(type="waiting")
        first, second = rig.start(ended), rig.start(hung)
        while rig.crew.executor.busy > 1:
            await rig.crew.pulse.next()
        first.beat_until = second.beat_until = 0
        await rig.crew.keeper.beat_redis(rig.dispatcher.port)
        assert [beat[0] for beat in rig.dispatcher.beats] == [ended.id]
        rig.ledger.is_away = False
        await rig.settled()


async def test_news_of_an_attempt_that_has_ended_change_nothing() -> None:
    async with rigged(work=work) as rig:
        claimed = make_claimed()
        attempt = rig.start(claimed)
        await rig.settled()
        await rig.idle()
        rig.crew.stop(attempt, Stop.LOST)
        assert rig.metrics.value("ferryman_fenced_writes_total") == 0
