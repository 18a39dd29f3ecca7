"""Every example of the description works as it stands, and every answer is of the shape that it promises."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from ferryman.api.openapi import describe, roles_of
from ferryman.api.routes import ROUTES
from ferryman.api.routing import Route
from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Beat, Settlement
from ferryman.core.verdict import DeadLetter
from tests.support.api import SERVICE, Api, Reply, on_fresh_stores, token
from tests.support.servers import Database

EVERYTHING = token("user", "admin", "platform")
DESCRIPTION = msgspec.json.decode(msgspec.json.encode(describe("1")))


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def dead_letter(api: Api) -> tuple[str, str]:
    """A dead-lettered job and its letter."""
    job_id = await api.submitted(bearer=EVERYTHING)
    token_, failure = (
        uuid4(),
        Failure(error_class=ErrorClass.PERMANENT, message="no", details={}, fingerprint="0" * 16),
    )
    (claimed,) = await api.ledger.attempts.claim(
        "w", [(UUID(job_id), token_)], queue="default", types=["chat"]
    )
    end = Settlement(
        id=claimed.id,
        token=token_,
        attempt=1,
        verdict=DeadLetter(failure),
        run_ms=1,
        wait_ms=1,
        max_retries=3,
    )
    await api.ledger.attempts.settle("w", [end])
    letters = (await api.call("GET", "/api/dead-letters?status=any", bearer=EVERYTHING)).json["deadLetters"]
    return job_id, next(one["deadLetterId"] for one in letters if one["originalJobId"] == job_id)


async def silent_worker(api: Api) -> str:
    """A worker that was heard of once, and then not again."""
    beat = Beat(
        worker_id="w-1",
        pod="pod-1",
        queues=["default"],
        types=["chat"],
        slots=2,
        busy=0,
        state="running",
        held=[],
    )
    await api.ledger.attempts.beat(beat)
    return beat.worker_id


async def path_of(api: Api, route: Route) -> str:
    """The route's path with names of things that are there, fit for the call."""
    if "{workerId}" in route.path:
        return route.path.format(workerId=await silent_worker(api))
    if "{webhookId}" in route.path:
        made = await api.call(
            "POST", "/api/webhooks", {"url": "https://hooks.example.com/"}, bearer=EVERYTHING
        )
        return route.path.format(webhookId=made.json["webhookId"])
    if "{name}" in route.path:
        if route.name != "deleteQueue":
            return route.path.format(name="default")
        await api.call("PUT", "/api/queues/spare", {}, bearer=EVERYTHING)
        return route.path.format(name="spare")
    if "{deadLetterId}" in route.path:
        return route.path.format(deadLetterId=(await dead_letter(api))[1])
    if route.name == "retryJob":
        return route.path.format(jobId=(await dead_letter(api))[0])
    return route.path.format(jobId=await api.submitted(bearer=EVERYTHING))


def assert_as_described(route: Route, reply: Reply) -> None:
    described = DESCRIPTION["paths"][route.path][route.method.lower()]["responses"][str(reply.status)]
    if "content" not in described:
        assert reply.text == ""
        return
    ((media_type, content),) = described["content"].items()
    assert reply.headers["Content-Type"].split(";")[0] == media_type
    schema: dict[str, Any] = {**content["schema"], "components": DESCRIPTION["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(reply.json)]
    assert errors == [], (route.name, reply.text)


@pytest.mark.parametrize("route", [one for one in ROUTES if one.handle], ids=lambda route: route.name)
async def test_every_example_works_and_answers_as_described(api: Api, route: Route) -> None:
    for example in route.examples or (None,):
        path = await path_of(api, route)
        query = f"?{example.query}" if example is not None and example.query else ""
        body = None if example is None else example.body
        bearer = SERVICE if roles_of(route.call) == ["service"] else EVERYTHING
        reply = await api.call(route.method, path + query, body, bearer=bearer)
        expected = example.status if example is not None else min(route.answers)
        assert reply.status == expected, reply.text
        assert_as_described(route, reply)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_refusals_answer_as_described(api: Api, route: Route) -> None:
    path = route.path.format(
        jobId=uuid4(), deadLetterId=uuid4(), name="default", workerId="w-1", webhookId=uuid4()
    )
    assert_as_described(route, await api.call(route.method, path, bearer="forged"))
    assert_as_described(route, await api.call(route.method, path, bearer=token("nothing")))
    assert_as_described(route, await api.call(route.method, path + "?bogus=1", bearer=EVERYTHING))
