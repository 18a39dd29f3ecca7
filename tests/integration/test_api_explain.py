"""Why a job is not running: each reason of the contract, made true on real stores and named over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Beat, Settlement
from ferryman.core.verdict import Complete, RetryAt
from ferryman.dispatch.dispatcher import open_dispatcher
from ferryman.ledger.postgres import open_ledger
from tests.support.api import PLATFORM, SERVICE, Api, on_fresh_stores, running, token
from tests.support.servers import Database

GLOBEX = token("user", tenant="globex")
OPERATOR = token("user", "platform")


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def worker(
    api: Api, *types: str, slots: int = 4, busy: int = 0, state: Any = "running", name: str = "w1"
) -> None:
    """A live worker of the queue default that says so of itself."""
    beat = Beat(
        worker_id=name,
        pod="p",
        queues=["default"],
        types=list(types or ("chat",)),
        slots=slots,
        busy=busy,
        state=state,
        held=[],
    )
    await api.ledger.attempts.beat(beat)


async def claim(api: Api, count: int = 1) -> list[Any]:
    """What a worker gets, claimed in the ledger as well."""
    tokens = [uuid4() for _ in range(count)]
    step = await api.dispatcher.step("default", ended=[], tokens=tokens, lease_ms=60_000)
    return await api.ledger.attempts.claim("w1", step.claimed, queue="default", types=["chat"])


async def settings(api: Api, **changed: Any) -> None:
    assert (await api.call("PUT", "/api/queues/default", changed, bearer=PLATFORM)).status == 200


async def explain(api: Api, job_id: str, *, bearer: str | None = None) -> Any:
    reply = await api.call("GET", f"/api/jobs/{job_id}/explain", bearer=bearer)
    assert reply.status == 200, reply.text
    assert reply.json["jobId"] == job_id
    return reply.json


async def details(api: Api, job_id: str, *, bearer: str | None = None) -> dict[str, Any]:
    """The reasons by code, in order, with their details."""
    answer = await explain(api, job_id, bearer=bearer)
    assert all(reason["message"] for reason in answer["reasons"])
    return {reason["code"]: reason["details"] for reason in answer["reasons"]}


async def test_position(api: Api) -> None:
    await worker(api)
    ids = [await api.submitted() for _ in range(3)]
    for ahead, job_id in enumerate(ids):
        assert await details(api, job_id) == {"position": {"ahead": ahead, "where": "ready"}}
    urgent = await api.submitted(priority=50)
    assert (await details(api, urgent))["position"]["ahead"] == 0
    assert (await explain(api, urgent))["source"] == "redis"


async def test_paused(api: Api) -> None:
    await worker(api)
    job_id = await api.submitted()
    await api.call("POST", "/api/queues/default/pause", bearer=PLATFORM)
    assert list(await details(api, job_id)) == ["paused", "position"]


async def test_not_due(api: Api) -> None:
    await worker(api)
    job_id = await api.submitted(delayMs=60_000)
    (found,) = (await details(api, job_id)).items()
    assert found[0] == "not_due"
    assert 50_000 < found[1]["dueInMs"] <= 60_000
    assert found[1]["runAt"].endswith("Z")


async def test_retry_backoff(api: Api) -> None:
    await worker(api)
    job_id = await api.submitted()
    (claimed,) = await claim(api)
    failure = Failure(error_class=ErrorClass.TRANSIENT, message="no", details={}, fingerprint="0" * 16)
    await api.ledger.attempts.settle("w1", [settlement(claimed, RetryAt(60_000, failure))])
    found = await details(api, job_id)
    assert list(found) == ["retry_backoff"]
    assert found["retry_backoff"] | {"dueInMs": 0, "nextRetryAt": ""} == {
        "nextRetryAt": "",
        "dueInMs": 0,
        "attempt": 1,
        "retryCount": 1,
        "maxRetries": 5,
        "errorClass": "TRANSIENT",
    }


async def test_rate_limited(api: Api) -> None:
    await worker(api)
    await settings(api, perTenant={"ratePerSecond": 0.01, "burst": 1})
    ids = [await api.submitted() for _ in range(3)]
    assert len(await claim(api, 3)) == 1
    found = await details(api, ids[2])
    assert list(found) == ["rate_limited", "position"]
    assert 90_000 < found["rate_limited"].pop("nextStartInMs") <= 100_000
    assert found["rate_limited"] == {"ratePerSecond": 0.01, "burst": 1}
    assert found["position"]["ahead"] == 1


async def test_concurrency_limited(api: Api) -> None:
    await worker(api)
    await settings(api, tenants={"acme": {"maxConcurrency": 1}}, maxConcurrency=2)
    ids = [await api.submitted() for _ in range(2)]
    foreign = [await api.submitted(bearer=GLOBEX) for _ in range(2)]
    assert len(await claim(api, 4)) == 2
    answer = await explain(api, ids[1])
    assert [reason["details"] for reason in answer["reasons"]][:2] == [
        {"limit": "tenant", "maxConcurrency": 1, "running": 1},
        {"limit": "queue", "maxConcurrency": 2},
    ]
    assert list(await details(api, foreign[1], bearer=GLOBEX)) == ["concurrency_limited", "position"]


async def test_fair_share(api: Api) -> None:
    await worker(api)
    await api.submitted()
    for _ in range(2):
        await api.submitted(bearer=GLOBEX)
    job_id = await api.submitted(bearer=OPERATOR)
    assert [one.tenant_id for one in await claim(api)] == ["acme"]
    assert (await details(api, job_id))["fair_share"] == {"weight": 1.0}
    whole = await details(api, job_id, bearer=OPERATOR)
    assert whole["fair_share"] == {"weight": 1.0, "tenantsAhead": 1, "tenants": 2}


async def test_no_worker_for_type(api: Api) -> None:
    await worker(api, "pdf", "sms")
    job_id = await api.submitted()
    found = await details(api, job_id)
    assert list(found) == ["no_worker_for_type", "position"]
    assert found["no_worker_for_type"] == {"type": "chat", "workers": 1, "knownTypes": ["pdf", "sms"]}
    await worker(api, name="w2")
    assert list(await details(api, job_id)) == ["position"]


async def test_no_worker_at_all(api: Api) -> None:
    found = await details(api, await api.submitted())
    assert list(found) == ["no_worker_for_type", "no_capacity", "position"]
    assert found["no_capacity"] == {"workers": 0, "slots": 0}


async def test_no_capacity(api: Api) -> None:
    await worker(api, slots=3, busy=3)
    job_id = await api.submitted()
    found = await details(api, job_id)
    assert list(found) == ["no_capacity", "position"]
    assert found["no_capacity"] == {"workers": 1, "slots": 3}
    await worker(api, slots=3, busy=0, state="draining")
    assert list(await details(api, job_id)) == ["no_capacity", "position"]
    await worker(api, slots=3, busy=2)
    assert list(await details(api, job_id)) == ["position"]


async def test_what_runs_or_has_ended_has_no_reasons(api: Api) -> None:
    job_id = await api.submitted()
    (claimed,) = await claim(api)
    assert (await explain(api, job_id))["reasons"] == []
    await api.ledger.attempts.settle("w1", [settlement(claimed)])
    answer = await explain(api, job_id)
    assert (answer["status"], answer["reasons"], answer["estimatedStart"]) == ("completed", [], None)


async def test_a_start_is_estimated_from_what_the_tenant_had_lately(api: Api) -> None:
    await worker(api)
    for _ in range(30):
        await api.submitted()
    waiting = [await api.submitted() for _ in range(3)]
    assert (await explain(api, waiting[2]))["estimatedStart"] is None
    await api.ledger.attempts.settle("w1", [settlement(one) for one in await claim(api, 30)])
    start = (await explain(api, waiting[2]))["estimatedStart"]
    earliest, latest = (datetime.fromisoformat(start[name]) for name in ("earliest", "latest"))
    assert datetime(2020, 1, 1, tzinfo=UTC) < earliest < latest
    foreign = await api.submitted(bearer=GLOBEX)
    assert (await explain(api, foreign, bearer=GLOBEX))["estimatedStart"] is None


async def test_other_tenants_change_no_number_that_a_tenant_sees(api: Api) -> None:
    await worker(api)
    ids = [await api.submitted() for _ in range(3)]
    alone = await details(api, ids[2])
    for _ in range(7):
        await api.submitted(bearer=GLOBEX)
    beside = await details(api, ids[2])
    beside.pop("fair_share", None)
    assert beside == alone
    for bearer in (GLOBEX, token("admin", tenant="globex"), token("user", user=2)):
        assert (await api.call("GET", f"/api/jobs/{ids[2]}/explain", bearer=bearer)).status == 404
    bound = await api.call(
        "GET", f"/api/jobs/{ids[2]}/explain", bearer=SERVICE, headers={"X-Tenant-Id": "acme"}
    )
    assert bound.json["reasons"][-1]["details"] == {"ahead": 2, "where": "ready"}


async def test_without_redis_the_ledger_says_what_it_can(ledger_database: Database) -> None:
    async with open_ledger(ledger_database.service_url) as ledger:
        dispatcher = open_dispatcher("redis://127.0.0.1:1/0")
        try:
            async with running(ledger, dispatcher) as api:
                await worker(api, "pdf")
                await settings(api, paused=True, perTenant={"ratePerSecond": 1})
                job_id = await api.submitted()
                answer = await explain(api, job_id)
                assert [one["code"] for one in answer["reasons"]] == [
                    "paused",
                    "no_worker_for_type",
                    "position",
                ]
                assert answer["reasons"][-1]["details"] == {"ahead": None}
                assert (answer["source"], answer["estimatedStart"]) == ("ledger", None)
        finally:
            await dispatcher.close()


def settlement(claimed: Any, verdict: Any = None) -> Settlement:
    """The end of an attempt: completed unless told otherwise."""
    return Settlement(
        id=claimed.id,
        token=claimed.token,
        attempt=claimed.attempt,
        verdict=verdict or Complete(b"{}"),
        run_ms=10,
        wait_ms=1,
        max_retries=claimed.max_retries,
    )


async def test_an_unknown_job_is_not_found(api: Api) -> None:
    for job_id in (UUID(int=7), "no-uuid"):
        assert (await api.call("GET", f"/api/jobs/{job_id}/explain")).status == 404
