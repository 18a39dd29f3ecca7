"""Figures: of a queue at an instant, and of what ended in a window."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ferryman.core.job import Beat
from ferryman.core.verdict import RetryAt
from ferryman.ledger.pool import Pools
from ferryman.ports import LedgerFigures, QueueFigures, StatsQuery
from tests.support.ledgers import claim, connected, settlement
from tests.support.servers import Database
from tests.support.stores import ACME, ADMIN, BROKEN, EVERYONE, GLOBEX, Stores

HORIZONS = (1_000, 60_000, 3_600_000)


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def figures(stores: Stores, queue: str = "default", tenant_id: str | None = None) -> LedgerFigures:
    return await stores.reports.ledger_figures(queue, tenant_id=tenant_id, horizons_ms=HORIZONS)


async def test_an_empty_queue_has_zeros(stores: Stores) -> None:
    assert await figures(stores) == LedgerFigures(
        dead_letters=0,
        oldest_pending_age_ms=None,
        due_within_ms=dict.fromkeys(HORIZONS, 0),
        running_elapsed_ms=0,
        workers=0,
        slots=0,
        busy=0,
        arrivals=0,
        completions=0,
        failures=0,
        service_ms=0,
    )
    nothing = QueueFigures(pending=0, scheduled=0, retrying=0, running=0)
    assert await stores.reports.counts("default", tenant_id=None) == nothing
    assert await stores.reports.counts("nowhere", tenant_id=None) == nothing


async def test_counts_are_by_what_users_see(stores: Stores) -> None:
    for tenant in ("acme", "acme", "globex"):
        await stores.submitted(tenant_id=tenant)
        await stores.submitted(tenant_id=tenant, run_in_ms=60_000)
        await stores.retrying(tenant_id=tenant)
        await stores.running(tenant_id=tenant)
        await stores.ended(tenant_id=tenant)
        await stores.submitted(tenant_id=tenant, queue="background")
    assert await stores.reports.counts("default", tenant_id=None) == QueueFigures(
        pending=3, scheduled=3, retrying=3, running=3
    )
    assert await stores.reports.counts("default", tenant_id="globex") == QueueFigures(
        pending=1, scheduled=1, retrying=1, running=1
    )


async def test_ages_and_horizons_cover_every_priority(stores: Stores, ledger_database: Database) -> None:
    old = await stores.submitted(priority=3)
    await stores.submitted(priority=90)
    foreign = await stores.submitted(tenant_id="globex")
    for priority, delay_ms in ((0, 30_000), (50, 30_000), (90, 1_800_000), (3, 86_400_000)):
        await stores.submitted(priority=priority, run_in_ms=delay_ms)
    await stores.retrying(30_000)
    async with connected(ledger_database.owner_url) as connection:
        for job_id, age in ((old, 5), (foreign, 9)):
            await connection.execute(
                "UPDATE ferryman.jobs SET ready_since = now() - $2 * interval '1 s',"
                " run_at = now() - $2 * interval '1 s' WHERE id = $1",
                job_id,
                age,
            )
    everyone, acme = await figures(stores), await figures(stores, tenant_id="acme")
    assert 9_000 <= (everyone.oldest_pending_age_ms or 0) < 60_000
    assert 5_000 <= (acme.oldest_pending_age_ms or 0) < 9_000
    assert everyone.due_within_ms == {1_000: 0, 60_000: 3, 3_600_000: 4}
    assert (await figures(stores, tenant_id="globex")).due_within_ms == dict.fromkeys(HORIZONS, 0)


async def test_running_jobs_workers_and_totals_are_summed(stores: Stores, ledger_database: Database) -> None:
    claimed = await stores.running()
    await stores.running(tenant_id="globex")
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute("UPDATE ferryman.jobs SET started_at = now() - interval '10 s'")
    await stores.dead(tenant_id="globex")
    await stores.ended()
    for worker, silent_s in (("w1", 0), ("w2", 5), ("w3", 7)):
        await stores.attempts.beat(
            Beat(
                worker_id=worker,
                pod="p",
                queues=["default", "mail"],
                types=["chat"],
                slots=4,
                busy=1,
                state="running",
                held=[(claimed.id, claimed.token)],
            )
        )
        async with connected(ledger_database.owner_url) as connection:
            await connection.execute(
                "UPDATE ferryman.workers SET beat_at = now() - $2 * interval '1 s' WHERE id = $1",
                worker,
                silent_s,
            )
    everyone, acme = await figures(stores), await figures(stores, tenant_id="acme")
    assert 20_000 <= everyone.running_elapsed_ms < 40_000
    assert 10_000 <= acme.running_elapsed_ms < 20_000
    assert (everyone.workers, everyone.slots, everyone.busy) == (2, 8, 2)
    assert (everyone.dead_letters, acme.dead_letters) == (1, 0)
    assert (everyone.arrivals, everyone.completions, everyone.failures, everyone.service_ms) == (4, 1, 1, 24)
    assert (acme.arrivals, acme.completions, acme.failures, acme.service_ms) == (2, 1, 0, 12)
    assert (await figures(stores, "background")).workers == 0


async def now(stores: Stores) -> datetime:
    found: datetime = (await stores.pools.read.fetchrow("SELECT now() AS now"))["now"]
    return found


async def stats(stores: Stores, scope: Any = ACME, **query: Any) -> Any:
    at = await now(stores)
    window = {"start": at - timedelta(minutes=5), "end": at}
    return await stores.reports.stats(scope, StatsQuery(**(window | query)))


async def test_stats_count_what_ended_and_what_came(stores: Stores) -> None:
    for _ in range(6):
        await stores.ended()
    await stores.dead()
    await stores.retrying()
    await stores.changes.cancel(ACME, await stores.submitted(), ADMIN)
    await stores.ended(tenant_id="globex")
    found = await stats(stores)
    assert " ".join(found) == (
        "from to counts successRate failureRate retries deadLetters waitMs processingMs throughputPerSecond"
    )
    assert found["counts"] == {
        "submitted": 9,
        "completed": 6,
        "dead_letter": 1,
        "cancelled": 1,
        "expired": 0,
    }
    assert (found["successRate"], found["failureRate"]) == (6 / 8, 1 / 8)
    assert (found["retries"], found["deadLetters"]) == (1, 1)
    assert found["processingMs"] == {"p50": 14, "p95": 17, "p99": 17}, "all ran for 12 ms"
    assert 0 <= found["waitMs"]["p50"] <= found["waitMs"]["p95"] <= found["waitMs"]["p99"]
    assert found["throughputPerSecond"] == pytest.approx(7 / 300, rel=0.25)
    assert (await stats(stores, GLOBEX))["counts"]["completed"] == 1
    assert (await stats(stores, EVERYONE))["counts"]["completed"] == 7


async def test_stats_are_narrowed_by_queue_and_type(stores: Stores) -> None:
    await stores.ended(queue="background", type="memory")
    await stores.ended(type="memory")
    await stores.ended()
    completed = [
        (await stats(stores, **narrow))["counts"]["completed"]
        for narrow in ({"queue": "background"}, {"type": "memory"}, {"queue": "default", "type": "chat"})
    ]
    assert completed == [1, 2, 1]


async def test_nothing_ended_means_no_rates(stores: Stores) -> None:
    await stores.submitted()
    found = await stats(stores)
    assert found["counts"]["submitted"] == 1
    assert (found["successRate"], found["failureRate"], found["throughputPerSecond"]) == (None, None, 0.0)
    assert found["waitMs"] == found["processingMs"] == {"p50": None, "p95": None, "p99": None}


async def test_the_window_is_whole_minutes_and_says_so(stores: Stores, ledger_database: Database) -> None:
    await stores.ended()
    noon = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute("UPDATE ferryman.job_stats SET minute = $1", noon + timedelta(minutes=1))
    for start, end, expected in (
        (61, 62, 1),
        (119, 120, 1),
        (0, 61, 1),
        (0, 60, 0),
        (120, 180, 0),
    ):
        query = StatsQuery(start=noon + timedelta(seconds=start), end=noon + timedelta(seconds=end))
        found: Any = await stores.reports.stats(ACME, query)
        assert found["counts"]["completed"] == expected
        assert found["from"].endswith(f":0{start // 60}:00.000Z")
        assert found["to"].endswith(f":0{-(-end // 60)}:00.000Z")
    at = await now(stores)
    found = await stores.reports.stats(ACME, StatsQuery(start=at - timedelta(minutes=5), end=at))
    reached = datetime.fromisoformat(found["to"])
    assert reached <= await now(stores), "a window that ends now does not reach ahead"


async def test_stats_equal_what_many_shards_counted(stores: Stores) -> None:
    async def one(number: int) -> None:
        claimed = (await claim(stores.attempts, await stores.submitted(type="memory")))[0]
        verdict = RetryAt(60_000, BROKEN) if number % 4 == 0 else None
        await stores.attempts.settle(f"w{number}", [settlement(claimed, verdict)])

    await asyncio.gather(*(one(number) for number in range(40)))
    found = await stats(stores, type="memory")
    assert (found["counts"]["submitted"], found["counts"]["completed"], found["retries"]) == (40, 30, 10)
