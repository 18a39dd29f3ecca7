"""Events before they are sent: a job's order, what a reader takes, and outboxes that do not grow."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ferryman.core.events import FIRST, LAST, Mark, behind_all_before, parse
from ferryman.lifecycle.events import in_order
from ferryman.lifecycle.outbox import CAPACITY, FRAMES_PER_WINDOW, Frame, Outbox
from ferryman.ports import AuditEvent

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(xid: int, job: int, second: int) -> AuditEvent:
    return AuditEvent(
        mark=Mark(xid, UUID(int=second)),
        at=NOON + timedelta(seconds=second),
        tenant_id="acme",
        action="claimed",
        job_id=UUID(int=job),
        type="chat",
        queue="default",
        from_status="pending",
        to_status="running",
        attempt=1,
    )


def job_frame(number: int) -> Frame:
    return Frame(kind="job.changed", text=str(number), mark=Mark(number, UUID(int=0)), is_of_job=True)


def thin(changed: int, mark: Mark | None) -> Frame:
    return Frame(kind="coalesced", text=str(changed), mark=mark)


def test_the_order_of_the_log_is_kept_where_jobs_allow_it() -> None:
    events = [event(1, 7, 1), event(2, 8, 2), event(3, 7, 3)]
    assert in_order(events, FIRST) == [(one, one.mark) for one in events]
    assert in_order([], FIRST) == []


def test_a_job_s_events_change_places_and_the_mark_stays_before_what_was_not_sent() -> None:
    late, other, early = event(1, 7, 9), event(2, 8, 2), event(3, 7, 3)
    before = Mark(0, UUID(int=5))
    assert in_order([late, other, early], before) == [
        (early, before),
        (other, before),
        (late, early.mark),
    ]


def test_marks_are_written_down_and_read_again() -> None:
    mark = Mark(123_456, UUID("01890a5d-ac96-774b-bcce-b302099a8057"))
    assert parse(str(mark)) == mark
    assert FIRST < mark < LAST
    assert Mark(123_455, UUID(int=2**128 - 1)) < mark
    horizon = behind_all_before(123_457, now_ms=1_700_000_000_000)
    assert mark < horizon < Mark(123_457, UUID(int=0))
    assert horizon.at_ms == 1_700_000_000_001


@pytest.mark.parametrize("text", ["", "x", "0" * 47, "0" * 50, "g" * 48, "00 " * 16, "é" * 48])
def test_what_is_no_mark(text: str) -> None:
    assert parse(text) is None


async def test_an_outbox_that_nobody_empties_closes_as_slow() -> None:
    outbox = Outbox(thin=thin, thinned=False)
    for number in range(CAPACITY):
        outbox.offer(job_frame(number))
    assert outbox.reason is None
    outbox.offer(job_frame(0))
    assert outbox.reason == "slow"
    outbox.close("left")
    assert outbox.reason == "slow"


async def test_what_can_wait_waits_for_room() -> None:
    outbox = Outbox(thin=thin, thinned=False)

    async def fill() -> None:
        for number in range(3 * CAPACITY):
            await outbox.put(job_frame(number))

    filling = asyncio.create_task(fill())
    taken: list[str] = []
    while len(taken) < 3 * CAPACITY:
        taken += [frame.text for frame in await outbox.take(at_most_s=5)]
    await filling
    assert taken == [str(number) for number in range(3 * CAPACITY)]
    assert await outbox.take(at_most_s=0.01) == []


async def test_above_a_hundred_a_second_the_rest_is_one_frame() -> None:
    outbox = Outbox(thin=thin, thinned=True)
    for number in range(FRAMES_PER_WINDOW + 50):
        outbox.offer(job_frame(number))
    outbox.offer(Frame(kind="queue.status", text="figures"))
    frames = await outbox.take(at_most_s=5)
    assert [frame.text for frame in frames] == [*map(str, range(FRAMES_PER_WINDOW)), "figures"]
    (coalesced,) = await outbox.take(at_most_s=5)
    assert (coalesced.kind, coalesced.text) == ("coalesced", "50")
    assert coalesced.mark == Mark(FRAMES_PER_WINDOW + 49, UUID(int=0))
