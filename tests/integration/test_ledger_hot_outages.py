"""PostgreSQL goes, hangs, loses answers, comes back: a submission is stored, refused or honestly unknown."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from ferryman.core.job import Inserted
from ferryman.embedded import EmbeddedPostgres
from ferryman.embedded.cluster import SERVICE_ROLE
from ferryman.ledger import submissions as submissions_module
from ferryman.ledger.migrate import MigrationError, migrate, wait_for_schema
from ferryman.ledger.pool import Pools
from ferryman.ledger.postgres import open_ledger
from ferryman.ledger.submissions import Submissions
from ferryman.ports import Ledger, LedgerUnavailableError, OutcomeUnknownError
from ferryman.telemetry.metrics import Metrics
from tests.support.ledgers import USER, assert_books, blocked, connected, new_job, rows, value
from tests.support.proxies import proxy_to
from tests.support.servers import START_SECONDS, Database, database_on, make_postgres

REFUSED_WITHIN_S = 5.0
BACK_WITHIN_S = 2.0


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped."""
    server = make_postgres()
    try:
        server.start(START_SECONDS)
        yield server
    finally:
        server.close()


@pytest.fixture
async def own_database(own_server: EmbeddedPostgres) -> AsyncIterator[Database]:
    with database_on(own_server) as database:
        await migrate(database.owner_url, service_login=SERVICE_ROLE)
        yield database


async def _first_success(ledger: Ledger) -> Inserted:
    async with asyncio.timeout(REFUSED_WITHIN_S):
        while True:
            with contextlib.suppress(LedgerUnavailableError):
                return await ledger.jobs.insert(new_job(), USER)
            await asyncio.sleep(0)


async def test_the_ledger_returns_with_the_server(
    own_server: EmbeddedPostgres, own_database: Database
) -> None:
    clock = asyncio.get_running_loop().time
    async with open_ledger(own_database.service_url) as ledger:
        stored = [await ledger.jobs.insert(new_job(), USER)]
        own_server.stop("immediate")
        began = clock()
        answers = await asyncio.gather(
            *(ledger.jobs.insert(new_job(), USER) for _ in range(200)), return_exceptions=True
        )
        # The first batch may have met the dying connection.
        assert all(isinstance(one, LedgerUnavailableError | OutcomeUnknownError) for one in answers)
        again = await asyncio.gather(
            *(ledger.jobs.insert(new_job(), USER) for _ in range(200)), return_exceptions=True
        )
        assert all(isinstance(one, LedgerUnavailableError) for one in again)
        assert clock() - began < REFUSED_WITHIN_S
        await asyncio.to_thread(own_server.start)
        ready = clock()
        stored.append(await _first_success(ledger))
        assert clock() - ready < BACK_WITHIN_S
        assert (await ledger.ping())["schemaReady"] is True
    kept = {row["id"] for row in await rows(own_database.owner_url, "SELECT id FROM ferryman.jobs")}
    assert {one.id for one in stored} <= kept
    await assert_books(own_database.owner_url)


async def test_a_killed_session_is_in_doubt_and_resolved(ledger_database: Database) -> None:
    """The session dies while its INSERT waits; the same INSERT again, over another one, decides."""
    metrics = Metrics()
    url = ledger_database.owner_url
    async with open_ledger(ledger_database.service_url, metrics=metrics) as ledger, connected(url) as other:
        lock = other.transaction()
        await lock.start()
        await other.execute("LOCK TABLE ferryman.jobs IN SHARE MODE")
        job = new_job()
        submitted = asyncio.create_task(ledger.jobs.insert(job, USER))
        await blocked(url)
        await value(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        await lock.rollback()
        assert (await submitted).id == job.id
    assert metrics.value("ferryman_in_doubt_commits_total") == 1
    await assert_books(url)


async def test_a_lost_answer_is_asked_for_again(
    postgres: EmbeddedPostgres, ledger_database: Database
) -> None:
    """COMMIT happened, its answer did not arrive: stored once, and answered as what it is."""
    async with (
        proxy_to(postgres.port) as proxy,
        open_ledger(proxy.url(ledger_database.service_url)) as ledger,
    ):
        await ledger.jobs.insert(new_job(), USER)
        proxy.mute = True
        job = new_job(unique_key="k")
        submitted = asyncio.create_task(ledger.jobs.insert(job, USER))
        await proxy.muted.wait()
        proxy.mute = False
        proxy.cut()
        inserted = await submitted
        assert (inserted.id, inserted.duplicate) == (job.id, False)
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 2
    await assert_books(ledger_database.owner_url)


async def test_a_bulk_whose_answer_is_lost_is_asked_for_again(
    postgres: EmbeddedPostgres, ledger_database: Database
) -> None:
    async with (
        proxy_to(postgres.port) as proxy,
        open_ledger(proxy.url(ledger_database.service_url)) as ledger,
    ):
        await ledger.jobs.insert(new_job(), USER)
        proxy.mute = True
        jobs = [new_job() for _ in range(100)]
        submitted = asyncio.create_task(ledger.jobs.insert_all(jobs, USER))
        await proxy.muted.wait()
        proxy.mute = False
        proxy.cut()
        assert [one.id for one in await submitted] == [job.id for job in jobs]
    await assert_books(ledger_database.owner_url)


async def test_silence_is_answered_in_time_and_as_unknown(
    postgres: EmbeddedPostgres, ledger_database: Database
) -> None:
    clock = asyncio.get_running_loop().time
    async with (
        proxy_to(postgres.port) as proxy,
        open_ledger(proxy.url(ledger_database.service_url)) as ledger,
    ):
        await ledger.jobs.insert(new_job(), USER)
        proxy.mute = True
        job = new_job()
        began = clock()
        with pytest.raises(OutcomeUnknownError) as caught:
            await ledger.jobs.insert(job, USER)
        assert caught.value.job_ids == (job.id,)
        with pytest.raises(LedgerUnavailableError):  # now it is known beforehand
            await ledger.jobs.insert(new_job(), USER)
        assert clock() - began < 2 * REFUSED_WITHIN_S
        proxy.mute = False
        proxy.cut()
        await _first_success(ledger)
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 3


async def test_a_commit_that_no_longer_waits_for_its_standby_is_in_doubt(
    own_server: EmbeddedPostgres, own_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled wait for the synchronous standby looks like success but for a warning."""
    monkeypatch.setattr(submissions_module, "TOTAL_SECONDS", 1.0)
    pools = Pools(own_database.service_url)
    subject = Submissions(pools)
    await subject.insert(new_job(), USER)
    own_server.sql("ALTER SYSTEM SET synchronous_standby_names = 'ghost'; SELECT pg_reload_conf();")
    try:
        waits = (
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'ferryman'"
        )
        # The reload reaches the sessions one by one, so the first submissions may pass it by.
        submitted = asyncio.create_task(subject.insert(new_job(), USER))
        async with connected(own_database.owner_url) as other:
            while not (pid := await other.fetchval(waits)):
                if submitted.done():
                    submitted = asyncio.create_task(subject.insert(new_job(), USER))
                await asyncio.sleep(0)
            await other.execute("SET synchronous_commit = local")
            await other.fetchval("SELECT pg_cancel_backend($1)", pid)
        with pytest.raises(OutcomeUnknownError) as caught:
            await submitted
    finally:
        own_server.sql(
            "SET synchronous_commit = local; ALTER SYSTEM RESET synchronous_standby_names;"
            " SELECT pg_reload_conf();"
        )
    assert isinstance(await subject.insert(new_job(), USER), Inserted)
    (unknown,) = caught.value.job_ids
    assert await value(own_database.owner_url, "SELECT status FROM ferryman.jobs WHERE id = $1", unknown)
    await pools.close()
    await assert_books(own_database.owner_url)


async def test_every_connection_busy_is_said_soon(ledger_database: Database) -> None:
    pools = Pools(ledger_database.service_url, connections=1)
    async with pools.hot.held():
        began = asyncio.get_running_loop().time()
        with pytest.raises(LedgerUnavailableError, match="busy"):
            await pools.hot.fetch("SELECT 1")
        assert asyncio.get_running_loop().time() - began < REFUSED_WITHIN_S
    await pools.close()
    with pytest.raises(LedgerUnavailableError, match="closed"):
        await pools.hot.fetch("SELECT 1")


async def test_a_cancelled_caller_costs_its_connection_not_the_pool(ledger_database: Database) -> None:
    pools = Pools(ledger_database.service_url, connections=1)
    sleeper = asyncio.create_task(pools.hot.fetch("SELECT pg_sleep(30)"))
    while not await value(
        ledger_database.owner_url,
        "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'",
    ):
        await asyncio.sleep(0)
    sleeper.cancel()
    assert [row["n"] for row in await pools.hot.fetch("SELECT 1 AS n")] == [1]
    await pools.close()


async def test_a_program_waits_for_its_schema(fresh_database: Database) -> None:
    url = fresh_database.owner_url
    with pytest.raises(MigrationError, match="ferryman migrate"):
        await wait_for_schema(url, within_s=0)
    told = asyncio.Event()
    waiting = asyncio.create_task(wait_for_schema(url, within_s=30, progress=lambda _: told.set()))
    await told.wait()
    await migrate(url)
    await waiting
