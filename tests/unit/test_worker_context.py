"""What a handler sees and may ask for."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from ferryman import JobContext, ValidationError
from ferryman.core.verdict import Complete, DeadLetter, RetryAt
from tests.support.fake_stores import make_claimed
from tests.unit.test_worker_executor import end_of, rigged


async def test_the_context_tells_about_the_job() -> None:
    seen: dict[str, Any] = {}
    claimed = make_claimed(attempt=2, cursor=b"[1]", timeout_ms=60_000)

    async def work(ctx: JobContext) -> None:
        names = "job_id attempt tenant_id user_id queue type tags metadata cursor cancelled idempotency_key"
        seen.update({name: getattr(ctx, name) for name in names.split()}, deadline=ctx.deadline)

    async with rigged(work=work) as rig:
        rig.start(claimed)
        await rig.settled()
    left = seen.pop("deadline") - datetime.now(UTC)
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)
    assert seen == {
        "job_id": claimed.id,
        "attempt": 2,
        "tenant_id": "acme",
        "user_id": 7,
        "queue": "default",
        "type": "work",
        "tags": ["a"],
        "metadata": {"k": 1},
        "cursor": [1],
        "cancelled": False,
        "idempotency_key": str(claimed.id),
    }


async def test_log_lines_carry_the_job(caplog: pytest.LogCaptureFixture) -> None:
    async def work(ctx: JobContext) -> None:
        ctx.logger.info("working", extra={"step": 3})

    with caplog.at_level(logging.INFO, "ferryman.jobs"):
        await end_of(work, attempt=4)
    (record,) = [r for r in caplog.records if r.name == "ferryman.jobs.work"]
    assert (record.attempt, record.tenant_id, record.step) == (4, "acme", 3)  # type: ignore[attr-defined]


async def test_of_many_reports_the_first_and_the_last_are_stored() -> None:
    async def work(ctx: JobContext) -> None:
        for percent in range(1, 101):
            await ctx.progress(percent, f"step {percent}")

    async with rigged(work=work) as rig:
        rig.start(make_claimed())
        await rig.settled()
        percents = [percent for _, percent, _, _ in rig.ledger.reports]
        assert percents[-1] == 100
        assert len(percents) <= 3
        assert rig.ledger.reports[-1][2] == "step 100"


async def test_a_thread_reports_without_awaiting() -> None:
    def work(ctx: JobContext) -> None:
        for percent in range(50):
            ctx.progress(percent)
        ctx.save_cursor({"at": 50})

    async with rigged(work=work) as rig:
        rig.start(make_claimed())
        await rig.settled()
        _, percent, _, cursor = rig.ledger.reports[-1]
        assert (percent, cursor) == (49.0, b'{"at":50}')


async def test_an_awaited_cursor_is_stored_when_it_returns() -> None:
    stored: list[bytes | None] = []

    async def work(ctx: JobContext) -> None:
        for step in range(20):
            await ctx.save_cursor(step)
            stored.append(rig.ledger.reports[-1][3])
            assert ctx.cursor == step

    async with rigged(work=work) as rig:
        rig.start(make_claimed())
        await rig.settled()
    assert stored == [b"%d" % step for step in range(20)]


async def test_a_cursor_outlives_the_failure_that_follows_it() -> None:
    async def work(ctx: JobContext) -> None:
        ctx.save_cursor(5)
        raise ConnectionError

    async with rigged(work=work) as rig:
        rig.start(make_claimed())
        (settlement,) = await rig.settled()
        assert isinstance(settlement.verdict, RetryAt)
        assert rig.ledger.reports[-1][3] == b"5"


async def test_progress_waits_out_an_outage() -> None:
    async def work(ctx: JobContext) -> None:
        await ctx.progress(10)

    async with rigged(work=work) as rig:
        rig.ledger.is_away = True
        rig.start(make_claimed())
        while rig.crew.executor.busy:
            await rig.crew.pulse.next()
        rig.ledger.is_away = False
        await rig.settled()
        assert rig.ledger.reports[-1][1] == 10.0


async def test_a_report_that_meets_a_lost_lease_stops_the_handler() -> None:
    stopped = asyncio.Event()

    async def work(ctx: JobContext) -> None:
        try:
            await ctx.progress(1)
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with rigged(work=work) as rig:
        claimed = make_claimed()
        rig.ledger.lost.add(claimed.id)
        rig.start(claimed)
        await stopped.wait()
        await rig.idle()
        assert rig.ledger.settled == []


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
async def test_progress_out_of_range_is_refused(percent: float) -> None:
    async def work(ctx: JobContext) -> None:
        await ctx.progress(percent)

    verdict = (await end_of(work)).verdict
    assert isinstance(verdict, DeadLetter)
    assert "takes 0 to 100 percent" in verdict.failure.message


async def test_a_note_is_made_storable() -> None:
    async def work(ctx: JobContext) -> None:
        await ctx.progress(note="a\x00b" + "x" * 1_000)

    async with rigged(work=work) as rig:
        rig.start(make_claimed())
        await rig.settled()
        note = rig.ledger.reports[-1][2]
        assert note is not None
        assert len(note) == 500
        assert "\x00" not in note


async def test_children_come_with_the_completion() -> None:
    ids: list[UUID] = []

    async def work(ctx: JobContext) -> dict[str, Any]:
        ids.append(ctx.enqueue("mail", {"to": "ada"}, priority=7, delay_ms=500, tags=["x"], unique_key="k"))
        ids.append(await ctx.enqueue("mail"))
        return {"child": ids[0]}

    async with rigged(work=work) as rig:
        parent = make_claimed()
        rig.start(parent)
        (settlement,) = await rig.settled()
    assert settlement.verdict == Complete(b'{"child":"%s"}' % str(ids[0]).encode())
    first, second = settlement.children
    assert [first.id, second.id] == ids
    assert type(first.id) is UUID
    assert (first.tenant_id, first.user_id, first.queue) == ("acme", 7, "default")
    assert (first.type, first.input, first.priority) == ("mail", b'{"to":"ada"}', 7)
    assert (first.run_in_ms, first.tags, first.unique_key) == (500, ["x"], "k")
    assert first.parent_id == parent.id
    assert first.correlation_id == "corr-1"
    assert second.input == b"{}"


async def test_a_job_that_fails_has_no_children() -> None:
    async def work(ctx: JobContext) -> None:
        ctx.enqueue("mail")
        raise ConnectionError

    assert (await end_of(work)).children == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"job_type": "not a type"}, "type takes 1 to 50"),
        ({"priority": 101}, "priority: Expected `int` <= 100"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"delay_ms": 1, "run_at": datetime.now(UTC)}, "exclude each other"),
        ({"ttl_ms": 1, "expires_at": datetime.now(UTC)}, "exclude each other"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at"),
        ({"input": [1]}, "input takes an object"),
        ({"input": {"a": "\x00"}}, "the input cannot be kept"),
        ({"metadata": {"a": {}}}, "metadata"),
        ({"queue": "nowhere"}, "there is no queue 'nowhere'"),
    ],
)
async def test_a_child_that_cannot_be_is_a_dead_letter(given: dict[str, Any], says: str) -> None:
    async def work(ctx: JobContext) -> None:
        ctx.enqueue(**{"job_type": "mail", **given})

    verdict = (await end_of(work)).verdict
    assert isinstance(verdict, DeadLetter)
    assert says in verdict.failure.message


async def test_a_cursor_that_cannot_be_kept_is_refused() -> None:
    async def work(ctx: JobContext) -> None:
        with pytest.raises(ValidationError, match="the cursor cannot be kept"):
            ctx.save_cursor(object())

    assert (await end_of(work)).verdict == Complete(b"{}")
