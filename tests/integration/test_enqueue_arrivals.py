"""What `ferryman.enqueue` stored is heard of, pushed and run; and who may call it, by the command line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.listening import listen
from ferryman.maintainer.receiver import BATCH, Receiver
from ferryman.ports import Dispatcher, DispatcherUnavailableError
from ferryman.telemetry import names
from tests.support.applications import Application
from tests.support.commands import clean_environment, ferryman, installation
from tests.support.ledgers import connected, rows, value
from tests.support.servers import Database
from tests.support.stack import running_stack, until_ready
from tests.support.waiting import eventually
from tests.support.workers import Pipeline, opened_pipeline

HEARD_WITHIN_S = 1.0


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


@pytest.fixture
async def shop(postgres: EmbeddedPostgres, ledger_database: Database) -> Application:
    return await Application(postgres, ledger_database).granted("acme")


async def enqueue(connection: Any, count: int = 1) -> list[UUID]:
    found = await connection.fetch("SELECT ferryman.enqueue('chat') FROM generate_series(1, $1)", count)
    return [row[0] for row in found]


async def offered(pipeline: Pipeline) -> list[UUID]:
    """What a worker would get now."""
    tokens = [uuid4() for _ in range(10)]
    step = await pipeline.dispatcher.step("default", ended=(), tokens=tokens, lease_ms=60_000)
    return [job_id for job_id, _ in step.claimed]


def receiver_of(pipeline: Pipeline, dispatcher: Dispatcher | None = None) -> Receiver:
    return Receiver(pipeline.ledger, dispatcher or pipeline.dispatcher, pipeline.metrics)


async def test_what_was_committed_is_pushed_once(
    pipeline: Pipeline, shop: Application, ledger_database: Database
) -> None:
    receiver = receiver_of(pipeline)
    async with connected(shop.url) as connection:
        async with connection.transaction():
            job_ids = await enqueue(connection, 3)
            assert await receiver.run_once() == 0
        assert await receiver.run_once() == 3
    assert sorted(await offered(pipeline)) == sorted(job_ids)
    assert await receiver.run_once() == 0
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.arrivals") == 0
    assert pipeline.metrics.value(names.ARRIVED_TOTAL) == 3


async def test_two_receivers_share_the_work(pipeline: Pipeline, shop: Application) -> None:
    async with connected(shop.url) as connection:
        await enqueue(connection, BATCH + 20)
    pushed = await asyncio.gather(*(receiver_of(pipeline).run_once() for _ in range(2)))
    assert sorted(pushed) == [20, BATCH]


class Away:
    """A dispatcher that cannot be reached."""

    async def push(self, *_: Any, **__: Any) -> None:
        raise DispatcherUnavailableError("away")


async def test_a_push_that_fails_is_made_again(
    pipeline: Pipeline, shop: Application, ledger_database: Database
) -> None:
    away: Any = Away()
    async with connected(shop.url) as connection:
        job_ids = await enqueue(connection)
    with pytest.raises(DispatcherUnavailableError):
        await receiver_of(pipeline, away).run_once()
    assert await receiver_of(pipeline).run_once() == 0, "it is somebody's for a moment"
    taken = await value(
        ledger_database.owner_url, "SELECT taken_until - clock_timestamp() FROM ferryman.arrivals"
    )
    assert 0 < taken.total_seconds() <= 2
    assert await eventually(receiver_of(pipeline).run_once) == 1
    assert await offered(pipeline) == job_ids


async def test_a_job_that_a_worker_took_from_the_ledger_meanwhile_stays_its(
    pipeline: Pipeline, shop: Application
) -> None:
    async with connected(shop.url) as connection:
        (job_id,) = await enqueue(connection)
    (claimed,) = await pipeline.ledger.attempts.claim_ready("w1", "default", [uuid4()], types=["chat"])
    assert claimed.id == job_id
    assert await receiver_of(pipeline).run_once() == 1
    assert await offered(pipeline) == []


@asynccontextmanager
async def receiving(pipeline: Pipeline) -> AsyncIterator[asyncio.Event]:
    """A process that listens; the event is set at each word it hears."""
    told, heard, stop = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def hear() -> None:
        told.set()
        heard.set()

    tasks = [
        asyncio.create_task(listen(pipeline.database_url, hear, stop)),
        asyncio.create_task(receiver_of(pipeline).run_when_told(told, stop)),
    ]
    try:
        yield heard
    finally:
        stop.set()
        told.set()
        await asyncio.gather(*tasks)


async def test_a_commit_is_heard_at_once(pipeline: Pipeline, shop: Application) -> None:
    async with receiving(pipeline) as heard, connected(shop.url) as connection:
        await asyncio.wait_for(heard.wait(), 10)
        async with connection.transaction():
            job_ids = await enqueue(connection)
        committed = time.monotonic()
        assert await eventually(lambda: offered(pipeline), every_s=0.005) == job_ids
        assert time.monotonic() - committed < HEARD_WITHIN_S


async def test_a_lost_connection_is_made_again(
    pipeline: Pipeline, shop: Application, ledger_database: Database
) -> None:
    async with receiving(pipeline) as heard, connected(shop.url) as connection:
        await asyncio.wait_for(heard.wait(), 10)
        heard.clear()
        ended = await value(
            ledger_database.owner_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'ferryman-listener' AND datname = current_database()",
        )
        assert ended
        job_ids = await enqueue(connection)
        await asyncio.wait_for(heard.wait(), 10)
        assert await eventually(lambda: offered(pipeline)) == job_ids


async def test_processes_run_what_was_enqueued_within_a_second() -> None:

    async with running_stack() as stack:
        api = stack.api()
        stack.worker("--queue", "default")
        async with aiohttp.ClientSession() as session:
            await until_ready(session, api)
        connection = await stack.connect()
        try:
            await connection.execute(
                "INSERT INTO ferryman.tenant_grants (db_role, tenant_id) VALUES (session_user, 'acme')"
            )
            await _runs(connection)  # the worker is up
            waits = [await _runs(connection) for _ in range(3)]
            assert min(waits) < HEARD_WITHIN_S, waits
        finally:
            await connection.close()


async def _runs(connection: Any) -> float:
    """Seconds from the commit to the start."""
    job_id = await connection.fetchval("SELECT ferryman.enqueue('quick')")

    async def started() -> float | None:
        waited: float | None = await connection.fetchval(
            "SELECT extract(epoch FROM started_at - created_at)::float8 FROM ferryman.jobs WHERE id = $1",
            job_id,
        )
        return waited

    found = await eventually(started, lambda waited: waited is not None, within_s=20)
    assert found is not None
    return found


# ------------------------------------------------------------------------------------------- the grants


async def test_grants_are_given_shown_and_taken(
    postgres: EmbeddedPostgres, ledger_database: Database, redis_url: str
) -> None:
    environment = clean_environment(**installation(ledger_database, redis_url))
    application = Application(postgres, ledger_database)

    async def grants(*words: str, code: int = 0) -> Any:
        done = await ferryman("grants", *words, "--output", "json", environment=environment)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    assert await grants("list") == {"grants": []}
    await grants("add", application.role, "--tenant", "globex")
    await grants("add", application.role, "--tenant", "acme")
    (row,) = (await grants("list"))["grants"]
    assert (row["dbRole"], row["tenantId"], row["exists"]) == (application.role, "acme", True)
    async with connected(application.url) as connection:
        (job_id,) = await enqueue(connection)
    (stored,) = await rows(ledger_database.owner_url, "SELECT id, tenant_id FROM ferryman.jobs")
    assert tuple(stored) == (job_id, "acme")
    await grants("remove", application.role)
    async with connected(application.url) as connection:
        with pytest.raises(Exception, match="permission denied"):
            await enqueue(connection)
    assert "was granted no tenant" in await grants("remove", application.role, code=1)
    assert "the server has no role 'nobody-here'" in await grants(
        "add", "nobody-here", "--tenant", "acme", code=1
    )
    postgres.sql(f"DROP ROLE {application.role}")


async def test_only_the_owner_grants(
    postgres: EmbeddedPostgres, ledger_database: Database, redis_url: str
) -> None:
    settings = installation(ledger_database, redis_url)
    del settings["FERRYMAN_OWNER_DATABASE_URL"]
    done = await ferryman(
        "grants", "add", "ferryman", "--tenant", "acme", environment=clean_environment(**settings)
    )
    assert done.returncode == 1
    assert "only the schema's owner grants" in done.stderr


async def test_a_role_that_is_gone_is_told(
    postgres: EmbeddedPostgres, ledger_database: Database, redis_url: str
) -> None:
    application = await Application(postgres, ledger_database).granted("acme")
    postgres.sql(f"DROP OWNED BY {application.role}; DROP ROLE {application.role}", ledger_database.name)
    environment = clean_environment(**installation(ledger_database, redis_url))
    shown = await ferryman("grants", "list", environment=environment)
    assert "the role is gone" in shown.stdout
    done = await ferryman("grants", "remove", application.role, environment=environment)
    assert done.returncode == 0
