"""Submission: admitted, stored, pushed; and what becomes of kept places when a step fails."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from ferryman.auth.policy import ForbiddenError
from ferryman.auth.principal import Role
from ferryman.core.priority import score
from ferryman.core.queues import QueueSettings, TypeRetrySettings, TypeSettings
from ferryman.lifecycle.admission import Admission
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.orders import Order, make_job
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.lifecycle.submission import Submission
from ferryman.ports import (
    LedgerUnavailableError,
    OutcomeUnknownError,
    QueueFullError,
    RejectedDataError,
    UnknownQueueError,
)
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from tests.support.fakes import FakeDispatcher, FakeLedger, HandClock, asker, record


def order(**fields: Any) -> Order:
    defaults: dict[str, Any] = {
        "type": "chat",
        "queue": "default",
        "priority": 0,
        "input": b"{}",
        "metadata": b"{}",
        "tags": [],
    }
    return Order(**(defaults | fields))


class Desk:
    """A submission desk on fakes."""

    def __init__(self, ledger: FakeLedger | None = None, dispatcher: FakeDispatcher | None = None) -> None:
        self.ledger = ledger or FakeLedger()
        self.dispatcher = dispatcher or FakeDispatcher()
        self.clock = HandClock()
        self.metrics = Metrics()
        link = DispatcherLink(self.dispatcher.as_port(), self.metrics, self.clock)
        self.directory = QueueDirectory(self.ledger.as_port(), self.clock)
        admission = Admission(self.ledger.as_port(), link, self.clock, lambda: 0.5)
        self.submission = Submission(
            self.ledger.as_port(), self.directory, admission, link, self.metrics, self.clock
        )

    async def submit(self, **fields: Any) -> UUID:
        return (await self.submission.submit(asker(), order(**fields), uuid4())).id

    async def submit_all(self, *orders: Order) -> list[UUID]:
        ids = [uuid4() for _ in orders]
        return [one.id for one in await self.submission.submit_all(asker(), orders, ids)]


async def test_a_job_is_stored_and_pushed_with_its_place() -> None:
    desk = Desk()
    job_id = await desk.submit(priority=3)
    ((positions, reserved),) = desk.dispatcher.pushed
    assert (positions[0].id, positions[0].kind, reserved) == (job_id, "waiting", 1)
    assert positions[0].score == score(ready_ms=1_000, priority=3, aging_ms=60_000)
    assert desk.metrics.value(names.SUBMITTED_TOTAL, queue="default") == 1


async def test_an_unknown_queue_stores_nothing() -> None:
    desk = Desk()
    with pytest.raises(UnknownQueueError):
        await desk.submit(queue="nowhere")
    with pytest.raises(UnknownQueueError):
        await desk.submit(queue="NO QUEUE AT ALL")
    assert (desk.ledger.inserted, desk.dispatcher.pushed) == ([], [])
    assert desk.ledger.asked == ["nowhere"]


async def test_a_full_queue_stores_nothing_and_says_when_to_come_again() -> None:
    desk = Desk(dispatcher=FakeDispatcher(places=0))
    with pytest.raises(QueueFullError) as refusal:
        await desk.submit()
    assert (refusal.value.limit, refusal.value.retry_after_ms) == (6_000, 3_000)
    assert desk.ledger.inserted == []


async def test_without_redis_the_ledger_decides_and_nothing_fails() -> None:
    desk = Desk(dispatcher=FakeDispatcher(away=True))
    await desk.submit()
    assert len(desk.ledger.inserted) == 1
    assert desk.metrics.value(names.DISPATCHER_MISSED_TOTAL) == 2


async def test_without_redis_the_ledger_is_asked_once_a_second_and_counts_on() -> None:
    ledger = FakeLedger(records={"default": record(max_size=10, max_backlog=0)}, waiting=8)
    desk = Desk(ledger, FakeDispatcher(away=True))
    await desk.submit()
    await desk.submit()
    with pytest.raises(QueueFullError):
        await desk.submit()
    assert ledger.asked.count("counts default") == 1
    ledger.waiting = 3
    desk.clock.seconds = 1.5
    await desk.submit()
    assert ledger.asked.count("counts default") == 2


@pytest.mark.parametrize(
    ("error", "given_back"),
    [
        (LedgerUnavailableError("away"), 1),
        (RejectedDataError("bad"), 1),
        (OutcomeUnknownError([uuid4()]), 0),
    ],
)
async def test_a_place_that_no_job_took_is_given_back(error: Exception, given_back: int) -> None:
    desk = Desk(FakeLedger(insert_error=error))
    with pytest.raises(type(error)):
        await desk.submit()
    assert sum(reserved for _, reserved in desk.dispatcher.pushed) == given_back
    assert all(position.kind == "gone" for positions, _ in desk.dispatcher.pushed for position in positions)


async def test_a_duplicate_gives_its_place_back_and_counts_nothing() -> None:
    desk = Desk(FakeLedger(duplicate=True))
    await desk.submit()
    ((positions, reserved),) = desk.dispatcher.pushed
    assert (positions[0].kind, reserved) == ("gone", 1)
    assert desk.metrics.value(names.SUBMITTED_TOTAL, queue="default") == 0


async def test_in_bulk_each_queue_is_admitted_and_pushed_once_and_order_is_kept() -> None:
    desk = Desk(FakeLedger(records={"default": record(), "background": record("background")}))
    queues = ["default", "background", "default"]
    ids = await desk.submit_all(*(order(queue=queue) for queue in queues))
    assert [job.id for job in desk.ledger.inserted] == ids
    assert sorted(reserved for _, reserved in desk.dispatcher.pushed) == [1, 2]


async def test_in_bulk_a_refusal_gives_every_kept_place_back() -> None:
    desk = Desk(dispatcher=FakeDispatcher(places=2))
    with pytest.raises(QueueFullError):
        await desk.submit_all(order(), order(), order())
    assert desk.ledger.inserted == []
    assert sum(reserved for _, reserved in desk.dispatcher.pushed) == 2


async def test_a_viewer_submits_nothing() -> None:
    desk = Desk()
    with pytest.raises(ForbiddenError):
        await desk.submission.submit(asker(Role.VIEWER), order(), uuid4())
    assert desk.ledger.inserted == []


async def test_many_ask_for_a_queue_at_once_and_the_ledger_is_asked_once() -> None:
    desk = Desk()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        entered.set()
        await go_on.wait()

    desk.ledger.on_get = slow
    callers = [asyncio.create_task(desk.directory.get("default")) for _ in range(20)]
    await entered.wait()
    go_on.set()
    assert len({one.name for one in await asyncio.gather(*callers)}) == 1
    assert desk.ledger.asked == ["default"]


async def test_settings_are_read_again_after_two_seconds_or_a_change() -> None:
    desk = Desk()
    await desk.directory.get("default")
    await desk.directory.get("default")
    assert len(desk.ledger.asked) == 1
    desk.ledger.records["default"] = record(max_size=7)
    desk.clock.seconds = 2.1
    assert (await desk.directory.get("default")).settings.max_size == 7
    desk.ledger.records["default"] = record(max_size=8)
    desk.directory.forget("default")
    assert (await desk.directory.get("default")).settings.max_size == 8
    assert len(desk.ledger.asked) == 3


async def test_settings_a_second_old_are_answered_while_they_are_read_again() -> None:
    desk = Desk()
    await desk.directory.get("default")
    desk.ledger.records["default"] = record(max_size=7)
    asked = asyncio.Event()

    async def noted() -> None:
        asked.set()

    desk.ledger.on_get = noted
    desk.clock.seconds = 1.1
    assert (await desk.directory.get("default")).settings.max_size == 1_000
    await asked.wait()
    await asyncio.sleep(0)
    assert (await desk.directory.get("default")).settings.max_size == 7
    assert len(desk.ledger.asked) == 2


def test_open_numbers_come_from_queue_type_and_seed() -> None:
    settings = QueueSettings(
        visibility_timeout_ms=5_000,
        types={"report": TypeSettings(retry=TypeRetrySettings(max_retries=9), timeout_ms=1_234)},
    )
    report = make_job(order(type="report"), settings, asker(), id=uuid4(), tenant_id="acme")
    assert (report.max_retries, report.max_retries_given, report.timeout_ms) == (9, True, 1_234)
    assert (report.retry_delay_ms, report.retry_delay_given) == (1_000, False)
    chat = make_job(order(), settings, asker(), id=uuid4(), tenant_id="acme")
    assert (chat.max_retries, chat.max_retries_given, chat.timeout_ms) == (5, False, None)
    assert chat.visibility_timeout_ms == 5_000


def test_what_the_submission_says_is_given() -> None:
    job = make_job(
        order(max_retries=0, retry_delay_ms=0, visibility_timeout_ms=100, timeout_ms=1),
        QueueSettings(),
        asker(),
        id=uuid4(),
        tenant_id="acme",
    )
    assert (job.max_retries, job.max_retries_given) == (0, True)
    assert (job.retry_delay_ms, job.retry_delay_given) == (0, True)
    assert (job.visibility_timeout_ms, job.timeout_ms) == (100, 1)
