"""Queues and their figures over REST."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from ferryman.core.job import Beat
from tests.support.api import PLATFORM, SERVICE, Api, on_fresh_stores, token, warm
from tests.support.servers import Database


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def test_the_three_queues_always_exist(api: Api) -> None:
    queues = {one["queue"]: one for one in (await api.call("GET", "/api/queues")).json["queues"]}
    assert {
        name: (of["maxSize"], of["maxBacklog"], of["visibilityTimeoutMs"], of["deadLetterQueue"])
        for name, of in queues.items()
    } == {
        "default": (1_000, 5_000, 30_000, "default_dlq"),
        "high_priority": (100, 500, 10_000, "high_priority_dlq"),
        "background": (5_000, 10_000, 60_000, "background_dlq"),
    }
    for name in queues:
        reply = await api.call("DELETE", f"/api/queues/{name}", bearer=SERVICE)
        assert (reply.status, reply.code) == (409, "built_in")


async def test_a_queue_is_made_replaced_and_deleted(api: Api) -> None:
    settings = {
        "maxSize": 5,
        "retry": {"maxRetries": 9},
        "types": {"chat": {"timeoutMs": 10}},
        "perTenant": {"weight": 2},
        "tenants": {"acme": {"maxConcurrency": 3}},
    }
    made = await api.call("PUT", "/api/queues/emails", settings, bearer=PLATFORM)
    assert (made.status, made.json["maxSize"], made.json["retry"]["maxRetries"]) == (201, 5, 9)
    assert made.json["types"] == {"chat": {"timeoutMs": 10}}
    assert made.json["tenants"] == {"acme": {"maxConcurrency": 3}}
    assert made.json["deadLetterQueue"] == "emails_dlq"
    again = {name: value for name, value in made.json.items() if name != "queue"}
    kept = await api.call("PUT", "/api/queues/emails", again, bearer=PLATFORM)
    assert (kept.status, kept.json) == (200, made.json)
    replaced = await api.call("PUT", "/api/queues/emails", {"maxSize": 7}, bearer=PLATFORM)
    assert (replaced.json["maxSize"], replaced.json["retry"]["maxRetries"], replaced.json["types"]) == (
        7,
        3,
        {},
    )
    await api.submitted(queue="emails")
    full = await api.call("DELETE", "/api/queues/emails", bearer=PLATFORM)
    assert (full.status, full.code) == (409, "queue_not_empty")
    (job,) = (await api.call("GET", "/api/jobs?queue=emails")).json["jobs"]
    await api.call("POST", f"/api/jobs/{job['jobId']}/cancel")
    assert (await api.call("DELETE", "/api/queues/emails", bearer=PLATFORM)).status == 204
    gone = await api.submit(queue="emails")
    assert (gone.status, gone.code) == (422, "unknown_queue")


async def test_a_tenant_learns_nothing_of_what_others_may(api: Api) -> None:
    tenants = {"acme": {"weight": 2}, "globex": {"ratePerSecond": 5}}
    await api.call("PUT", "/api/queues/default", {"tenants": tenants}, bearer=PLATFORM)
    for bearer, shown in [
        (PLATFORM, tenants),
        (SERVICE, tenants),
        (token("user"), {"acme": {"weight": 2}}),
        (token("admin", tenant="globex"), {"globex": {"ratePerSecond": 5}}),
        (token("viewer", tenant="initech"), {}),
    ]:
        one = await api.call("GET", "/api/queues/default", bearer=bearer)
        assert one.json["tenants"] == shown
        queues = (await api.call("GET", "/api/queues", bearer=bearer)).json["queues"]
        assert next(queue for queue in queues if queue["queue"] == "default")["tenants"] == shown


async def test_limits_of_tenants_hold_as_soon_as_put_has_answered(api: Api) -> None:
    for tenant in ("acme", "globex"):
        for _ in range(3):
            await api.submitted(bearer=token("user", tenant=tenant))
    limits = {"perTenant": {"maxConcurrency": 2}, "tenants": {"globex": {"ratePerSecond": 0.1}}}
    await api.call("PUT", "/api/queues/default", limits, bearer=PLATFORM)
    tokens = [uuid4() for _ in range(6)]
    step = await api.dispatcher.step("default", ended=[], tokens=tokens, lease_ms=1_000)
    running = await api.dispatcher.figures("default", tenant_id="globex")
    assert (len(step.claimed), running and running.running) == (3, 1)


async def test_pause_stays_unless_put_says_otherwise(api: Api) -> None:
    paused = await api.call("POST", "/api/queues/default/pause", bearer=PLATFORM)
    assert (paused.status, paused.json["paused"]) == (200, True)
    assert (await api.call("PUT", "/api/queues/default", {}, bearer=PLATFORM)).json["paused"] is True
    await api.submitted()
    step = await api.dispatcher.step("default", ended=[], tokens=[uuid4()], lease_ms=1_000)
    assert (step.claimed, step.paused) == ([], True)
    status = (await api.call("GET", "/api/jobs/queue/status?queue=default")).json
    assert (status["paused"], status["pending"]) == (True, 1)
    assert (await api.call("PUT", "/api/queues/default", {"paused": False}, bearer=PLATFORM)).json[
        "paused"
    ] is False
    step = await api.dispatcher.step("default", ended=[], tokens=[uuid4()], lease_ms=1_000)
    assert len(step.claimed) == 1
    assert (await api.call("POST", "/api/queues/default/resume", bearer=PLATFORM)).json["paused"] is False


async def test_settings_out_of_bounds_change_nothing(api: Api) -> None:
    for settings, path in [
        ({"maxSize": 0}, "maxSize"),
        ({"visibilityTimeoutMs": 99}, "visibilityTimeoutMs"),
        ({"retry": {"multiplier": 0.5}}, "retry.multiplier"),
        ({"perTenant": {"ratePerSecond": -1}}, "perTenant.ratePerSecond"),
        ({"tenants": {"acme": {"weight": 0}}}, "tenants.acme.weight"),
        ({"tenants": {"a" * 51: {}}}, f"tenants.{'a' * 40}"),
        ({"tenants": {f"t{number}": {} for number in range(1_001)}}, "tenants"),
        ({"types": {"chat": {"retry": {"jitter": 1}}}}, "types.chat.retry.jitter"),
        ({"deadLetterQueue": "No Name"}, "deadLetterQueue"),
        ({"queue": "x"}, "queue"),
    ]:
        reply = await api.call("PUT", "/api/queues/emails", settings, bearer=PLATFORM)
        assert (reply.status, reply.paths) == (400, [path])
    assert (await api.call("GET", "/api/queues/emails")).status == 404


@pytest.mark.parametrize("name", ["UPPER", "-x", "a b", "x" * 64, "%2e%2e", "a%0a"])
async def test_what_cannot_name_a_queue_is_not_found(api: Api, name: str) -> None:
    assert (await api.call("PUT", f"/api/queues/{name}", {}, bearer=PLATFORM)).status == 404


async def test_the_status_of_all_queues_and_of_one(api: Api) -> None:
    await api.submitted()
    await api.submitted(delayMs=60_000)
    everything = (await api.call("GET", "/api/jobs/queue/status")).json["queues"]
    assert [one["queue"] for one in everything] == ["background", "default", "high_priority"]
    one = (await api.call("GET", "/api/jobs/queue/status?queue=default")).json
    assert (one["pending"], one["scheduled"], one["size"], one["source"], one["asleep"]) == (
        1,
        1,
        2,
        "redis",
        False,
    )
    assert one["totals"] == {"arrivals": 2, "completions": 0, "failures": 0, "serviceMs": 0}
    assert (one["dueWithinMs"]["30000"], one["dueWithinMs"]["300000"]) == (0, 1)
    missing = await api.call("GET", "/api/jobs/queue/status?queue=nowhere")
    assert (missing.status, missing.code) == (404, "not_found")


async def test_workers_are_counted(api: Api) -> None:
    beat = Beat(
        worker_id="w1", pod="p", queues=["default"], types=["chat"], slots=8, busy=3, state="running", held=[]
    )
    await api.ledger.attempts.beat(beat)
    whole = (await api.call("GET", "/api/jobs/queue/status?queue=default", bearer=SERVICE)).json
    assert whole["workers"] == {"count": 1, "slots": 8, "busy": 3}
    assert whole["asleep"] is False
    share = (await api.call("GET", "/api/jobs/queue/status?queue=default")).json
    assert share["workers"] == {"count": 1, "slots": 8, "busy": 0}


async def test_a_held_status_wakes_with_work(api: Api) -> None:
    path = "/api/jobs/queue/status?queue=background&wait=20000"
    held = [asyncio.create_task(api.call("GET", path, bearer=SERVICE)) for _ in range(5)]
    assert (await api.call("GET", path.replace("20000", "1"), bearer=SERVICE)).json["asleep"] is True
    await api.submitted(queue="background")
    for reply in await asyncio.gather(*held):
        assert (reply.json["asleep"], reply.json["pending"]) == (False, 1)
    assert (await api.call("GET", path, bearer=SERVICE)).json["pending"] == 1


async def test_a_new_queue_is_known_to_redis_at_once(api: Api) -> None:
    await api.call("PUT", "/api/queues/fresh", {}, bearer=SERVICE)
    await api.submitted(queue="fresh")
    status = (await api.call("GET", "/api/jobs/queue/status?queue=fresh")).json
    assert (status["source"], status["pending"]) == ("redis", 1)


async def test_the_ledger_counts_when_redis_knows_nothing(api: Api) -> None:
    await api.call("PUT", "/api/queues/fresh", {}, bearer=SERVICE)
    await api.dispatcher.forget_queue("fresh")
    await api.submitted(queue="fresh")
    status = (await api.call("GET", "/api/jobs/queue/status?queue=fresh")).json
    assert (status["source"], status["pending"]) == ("ledger", 1)
    await warm(api.ledger, api.dispatcher)
    status = (await api.call("GET", "/api/jobs/queue/status?queue=fresh")).json
    assert (status["source"], status["pending"]) == ("redis", 1)
