"""Rates over REST: 429 with what to do about it, headers on every answer, and no way around."""

import random
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from ferryman.dispatch.dispatcher import open_dispatcher
from ferryman.ledger.postgres import open_ledger
from tests.support.api import LIMITS, PLATFORM, SERVICE, Api, on_fresh_stores, running, token
from tests.support.servers import Database

RATE, BURST = 2.0, 6
LIMITED = replace(
    LIMITS, calls_per_second=RATE, call_burst=BURST, trusted_proxies=(ip_network("127.0.0.0/8"),)
)


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


@pytest.fixture
async def limited(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url, limits=LIMITED) as api:
        yield api


async def limit_submission(api: Api, **per_tenant: Any) -> None:
    reply = await api.call("PUT", "/api/queues/slow", {"perTenant": per_tenant}, bearer=PLATFORM)
    assert reply.status == 201


async def test_no_limit_says_nothing(api: Api) -> None:
    reply = await api.submit()
    assert reply.status == 201
    assert "RateLimit-Limit" not in reply.headers


async def test_submission_is_held_to_the_tenant_s_rate_on_the_queue(api: Api) -> None:
    await limit_submission(api, submitPerSecond=0.01, submitBurst=3)
    for remaining in ("2", "1", "0"):
        reply = await api.submit(queue="slow", bearer=token(user=random.randint(1, 9)))
        assert (reply.status, reply.headers["RateLimit-Remaining"]) == (201, remaining)
    assert reply.headers["RateLimit-Limit"] == "3"
    assert 298 <= int(reply.headers["RateLimit-Reset"]) <= 300
    refused = await api.submit(queue="slow")
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert 98 <= int(refused.headers["Retry-After"]) <= 100
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert (await api.submit(queue="slow", bearer=token(tenant="globex"))).status == 201
    assert (await api.submit()).status == 201
    as_service = await api.call(
        "POST",
        "/api/jobs",
        {"type": "chat", "queue": "slow"},
        bearer=SERVICE,
        headers={"X-Tenant-Id": "acme"},
    )
    assert as_service.status == 429


async def test_bulk_counts_its_jobs_all_or_nothing(api: Api) -> None:
    await limit_submission(api, submitPerSecond=0.01, submitBurst=5)

    def jobs(count: int) -> dict[str, Any]:
        return {"jobs": [{"type": "chat", "queue": "slow"}] * count + [{"type": "chat"}]}

    assert (await api.call("POST", "/api/jobs/bulk", jobs(3))).status == 201
    refused = await api.call("POST", "/api/jobs/bulk", jobs(3))
    assert (refused.status, refused.headers["RateLimit-Remaining"]) == (429, "2")
    assert (await api.call("POST", "/api/jobs/bulk", jobs(2))).status == 201
    never = await api.call("POST", "/api/jobs/bulk", jobs(6))
    assert (never.status, never.code) == (400, "too_many_at_once")
    assert "Retry-After" not in never.headers
    assert len((await api.call("GET", "/api/jobs?queue=slow")).json["jobs"]) == 5


async def test_a_replay_costs_nothing(api: Api) -> None:
    await limit_submission(api, submitPerSecond=0.01, submitBurst=1)
    for _ in range(3):
        reply = await api.call(
            "POST", "/api/jobs", {"type": "chat", "queue": "slow"}, headers={"Idempotency-Key": "k"}
        )
        assert reply.status == 201


async def test_all_calls_of_a_user_come_out_of_one_bucket(limited: Api) -> None:
    mix: list[tuple[str, str, Any, dict[str, str]]] = [
        ("GET", "/api/jobs", None, {}),
        ("POST", "/api/jobs", {"type": "chat"}, {}),
        ("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}]}, {}),
        ("GET", "/api/jobs?bogus=1", None, {}),
        ("POST", "/api/jobs/retention", {}, {}),
        ("GET", "/api/jobs/00000000-0000-7000-8000-000000000000", None, {}),
        ("GET", "/api/queues", None, {"X-Tenant-Id": "globex"}),
        ("GET", "/api/jobs", None, {"X-Forwarded-For": "203.0.113.9", "X-Correlation-Id": "another"}),
    ]
    started, statuses = time.monotonic(), []
    for _ in range(5):
        for method, path, body, headers in mix:
            reply = await limited.call(method, path, body, headers=headers, bearer=token())
            statuses.append(reply.status)
            assert reply.headers["RateLimit-Limit"] == str(BURST)
    accepted = sum(status != 429 for status in statuses)
    assert BURST <= accepted <= RATE * (time.monotonic() - started) + BURST
    assert (await limited.call("GET", "/api/jobs", bearer=token(user=2))).status == 200
    assert (await limited.call("GET", "/healthz")).status == 200


async def test_failed_logins_are_limited_by_address_and_good_ones_are_not(limited: Api) -> None:
    async def fail(forwarded: str) -> int:
        headers = {"X-Forwarded-For": forwarded}
        return (await limited.call("GET", "/api/jobs", bearer="forged", headers=headers)).status

    statuses = [await fail("198.51.100.7") for _ in range(3 * BURST)]
    assert statuses[:BURST] == [401] * BURST
    assert 429 in statuses
    # Only what the trusted proxy itself has seen counts: the last entry.
    assert await fail("203.0.113.1, 198.51.100.7") == 429
    assert await fail("198.51.100.7, 203.0.113.1") == 401
    good = await limited.call("GET", "/api/jobs", headers={"X-Forwarded-For": "198.51.100.7"})
    assert good.status == 200


async def test_redis_away_neither_opens_nor_closes_the_gate(ledger_database: Database) -> None:
    dispatcher = open_dispatcher("redis://127.0.0.1:1/0")
    async with (
        open_ledger(ledger_database.service_url) as ledger,
        running(ledger, dispatcher, limits=LIMITED) as api,
    ):
        statuses = [(await api.call("GET", "/api/queues")).status for _ in range(3 * BURST)]
    await dispatcher.close()
    assert statuses[:BURST] == [200] * BURST
    assert 429 in statuses
