"""PostgreSQL or Redis away, mute or empty: the right answer in time, and never a lie."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from ferryman.dispatch.dispatcher import open_dispatcher
from ferryman.ledger.postgres import open_ledger
from tests.support.api import SERVICE, Api, Reply, running, warm
from tests.support.ledgers import value
from tests.support.proxies import Proxy, proxy_to
from tests.support.servers import Database

ANSWERED_WITHIN_S = 5.0
READS = ("/api/jobs", "/api/queues", "/api/jobs/stats", "/api/jobs/queue/status", "/api/dead-letters")


@asynccontextmanager
async def api_on(database_url: str, redis_url: str) -> AsyncIterator[Api]:
    async with open_ledger(database_url) as ledger:
        dispatcher = open_dispatcher(redis_url)
        try:
            async with running(ledger, dispatcher) as api:
                yield api
        finally:
            await dispatcher.close()


@pytest.fixture
async def database_way(ledger_database: Database) -> AsyncIterator[Proxy]:
    """A way to the database that can be cut."""
    async with proxy_to(urlsplit(ledger_database.service_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def redis_way(redis_url: str) -> AsyncIterator[Proxy]:
    """A way to Redis that can be cut."""
    async with proxy_to(urlsplit(redis_url).port or 0) as proxy:
        yield proxy


def through(proxy: Proxy, url: str) -> str:
    """The same Redis by way of the proxy."""
    parts = urlsplit(url)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{proxy.port}"))


async def in_time(api: Api, method: str, path: str, body: object = None) -> Reply:
    async with asyncio.timeout(ANSWERED_WITHIN_S):
        return await api.call(method, path, body)


def assert_says_nothing(reply: Reply, database: Database) -> None:
    """No address, no password, no stack."""
    password = urlsplit(database.service_url).password or "?"
    for secret in (password, "postgres", "asyncpg", "Traceback", "127.0.0.1", database.name):
        assert secret not in reply.text


async def test_redis_away_and_submission_goes_on(ledger_database: Database) -> None:
    async with api_on(ledger_database.service_url, "redis://127.0.0.1:1") as api:
        job_id = await api.submitted()
        assert (await in_time(api, "POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}] * 5})).status == 201
        status = (await api.call("GET", "/api/jobs/queue/status?queue=default")).json
        assert (status["source"], status["pending"]) == ("ledger", 6)
        assert (await api.call("POST", f"/api/jobs/{job_id}/cancel")).status == 202
        assert (await api.call("POST", "/api/queues/default/pause", bearer=SERVICE)).status == 200
        ready = await api.call("GET", "/readyz")
        assert (ready.status, ready.json["status"]) == (200, "degraded")
        assert ready.json["dependencies"]["dispatcher"]["state"] == "down"


async def test_redis_away_and_the_limits_still_hold(ledger_database: Database) -> None:
    async with api_on(ledger_database.service_url, "redis://127.0.0.1:1") as api:
        await api.call("PUT", "/api/queues/small", {"maxSize": 3, "maxBacklog": 0}, bearer=SERVICE)
        replies = [await api.submit(queue="small") for _ in range(5)]
        assert [reply.status for reply in replies] == [201, 201, 201, 429, 429]


async def test_a_mute_redis_holds_nobody_up_for_long(
    ledger_database: Database, redis_url: str, redis_way: Proxy
) -> None:
    async with api_on(ledger_database.service_url, through(redis_way, redis_url)) as api:
        await warm(api.ledger, api.dispatcher)
        await api.submitted()
        redis_way.mute = True
        async with asyncio.timeout(ANSWERED_WITHIN_S):
            replies = await asyncio.gather(*(api.submit() for _ in range(100)))
        assert {reply.status for reply in replies} == {201}


async def test_postgresql_away_and_nothing_is_accepted(
    ledger_database: Database, redis_url: str, database_way: Proxy
) -> None:
    async with api_on(database_way.url(ledger_database.service_url), redis_url) as api:
        await warm(api.ledger, api.dispatcher)
        await api.submitted()
        await database_way.close()
        for method, path, body in [
            ("POST", "/api/jobs", {"type": "chat"}),
            ("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}]}),
            *(("GET", path, None) for path in READS),
        ]:
            reply = await in_time(api, method, path, body)
            assert (reply.status, reply.code) == (503, "ledger_unavailable"), path
            assert int(reply.headers["Retry-After"]) >= 1
            assert_says_nothing(reply, ledger_database)
        ready = await api.call("GET", "/readyz")
        assert (ready.status, ready.json["status"]) == (503, "unavailable")
        assert_says_nothing(ready, ledger_database)
        assert (await api.call("GET", "/healthz")).status == 200
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 1


async def test_a_mute_postgresql_leaves_doubt_and_says_so(
    ledger_database: Database, redis_url: str, database_way: Proxy
) -> None:
    async with api_on(database_way.url(ledger_database.service_url), redis_url) as api:
        await warm(api.ledger, api.dispatcher)
        await api.submitted()
        database_way.mute = True
        reply = await in_time(api, "POST", "/api/jobs", {"type": "chat"})
        assert (reply.status, reply.code) == (503, "outcome_unknown")
        job_id = reply.json["jobId"]
        assert_says_nothing(reply, ledger_database)
        read = await in_time(api, "GET", f"/api/jobs/{job_id}")
        assert (read.status, read.code) == (503, "ledger_unavailable")
    stored = await value(ledger_database.owner_url, "SELECT array_agg(id::text) FROM ferryman.jobs")
    assert job_id in stored


async def test_a_lost_answer_under_a_key_is_found_again(
    ledger_database: Database, redis_url: str, database_way: Proxy
) -> None:
    """The first try stored the job and could not say so; a second one after a while gets that very job."""
    headers = {"Idempotency-Key": "k"}
    async with api_on(database_way.url(ledger_database.service_url), redis_url) as api:
        await warm(api.ledger, api.dispatcher)
        await api.submitted()
        taken = api.ledger.keys.take

        async def take_then_mute(*given: object, **options: object) -> object:
            state = await taken(*given, **options)  # type: ignore[arg-type]
            database_way.mute = True
            return state

        api.ledger.keys.take = take_then_mute  # type: ignore[method-assign, assignment]
        first = await api.call("POST", "/api/jobs", {"type": "chat"}, headers=headers)
        assert (first.status, first.code) == (503, "outcome_unknown")
    ages = "UPDATE ferryman.idempotency_keys SET tried_at = tried_at - interval '1 minute' RETURNING 1"
    async with api_on(ledger_database.service_url, redis_url) as api:
        early = await api.call("POST", "/api/jobs", {"type": "chat"}, headers=headers)
        assert (early.status, early.code) == (409, "idempotency_in_flight")
        await value(ledger_database.owner_url, ages)
        again = await api.call("POST", "/api/jobs", {"type": "chat"}, headers=headers)
        assert (again.status, again.json["jobId"]) == (201, first.json["jobId"])
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.jobs") == 2


async def test_a_schema_that_is_not_migrated_is_not_ready(fresh_database: Database, redis_url: str) -> None:
    async with api_on(fresh_database.owner_url, redis_url) as api:
        ready = await api.call("GET", "/readyz")
        assert (ready.status, ready.json["status"]) == (503, "unavailable")
