"""Workers as the API shows them: drain and back, and word that one is gone."""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ferryman import JobContext, Registry
from ferryman.core.status import JobStatus
from tests.support.api import PLATFORM, SERVICE, Api, running, token
from tests.support.ledgers import assert_books, rows
from tests.support.servers import Database
from tests.support.stack import Process
from tests.support.waiting import eventually
from tests.support.workers import Pipeline, opened_pipeline

jobs = Registry()


@jobs.handler("echo")
async def echo(ctx: JobContext) -> dict[str, Any]:
    return {}


@jobs.handler("hangs_once")
async def hangs_once(ctx: JobContext) -> dict[str, Any]:
    return {"attempt": ctx.attempt}


@pytest.fixture
async def pipeline(ledger_database: Database, redis_url: str) -> AsyncIterator[Pipeline]:
    async with opened_pipeline(ledger_database.service_url, redis_url) as opened:
        yield opened


@pytest.fixture
async def api(pipeline: Pipeline) -> AsyncIterator[Api]:
    async with running(pipeline.ledger, pipeline.dispatcher) as api:
        yield api


async def workers(api: Api) -> dict[str, Any]:
    reply = await api.call("GET", "/api/workers", bearer=PLATFORM)
    assert reply.status == 200, reply.text
    return {one["workerId"]: one for one in reply.json["workers"]}


async def test_a_worker_is_shown_as_its_beat_says(api: Api, pipeline: Pipeline) -> None:
    assert await workers(api) == {}
    async with pipeline.working(jobs, queues=("default", "background"), concurrency=7) as worker:
        worker_id = worker.crew.identity.worker_id
        shown = (await eventually(lambda: workers(api), lambda seen: worker_id in seen))[worker_id]
        assert shown.pop("startedAt") <= shown.pop("lastHeartbeatAt")
        assert shown == {
            "workerId": worker_id,
            "pod": "test",
            "queues": ["default", "background"],
            "types": ["echo", "hangs_once"],
            "slots": 7,
            "busy": 0,
            "state": "running",
            "drainRequested": False,
        }
        for bearer in (token("admin"), token("viewer"), PLATFORM, SERVICE):
            assert (await api.call("GET", "/api/workers", bearer=bearer)).status == 200
    assert (await api.call("GET", "/api/workers", bearer=token("user"))).code == "forbidden"
    assert await workers(api) == {}


async def test_a_draining_worker_claims_nothing_until_it_is_taken_back(
    api: Api, pipeline: Pipeline, ledger_database: Database
) -> None:
    async with pipeline.working(jobs) as worker:
        worker_id = worker.crew.identity.worker_id
        await pipeline.completed(await pipeline.submit("echo"))
        path = f"/api/workers/{worker_id}/drain"
        assert (await api.call("POST", path, bearer=token("admin"))).code == "forbidden"
        for _ in range(2):  # asking twice is the same
            reply = await api.call("POST", path, bearer=PLATFORM)
            assert (reply.status, reply.json["drainRequested"]) == (202, True)
        await eventually(lambda: workers(api), lambda seen: seen[worker_id]["state"] == "drained")
        waiting = await pipeline.submit("echo")
        beat = (await workers(api))[worker_id]["lastHeartbeatAt"]
        await eventually(lambda: workers(api), lambda seen: seen[worker_id]["lastHeartbeatAt"] > beat)
        assert (await pipeline.get(waiting)).status is JobStatus.PENDING
        assert (await api.call("DELETE", path, bearer=SERVICE)).json["drainRequested"] is False
        await pipeline.completed(waiting)
        await eventually(lambda: workers(api), lambda seen: seen[worker_id]["state"] == "running")
    audit = await rows(
        ledger_database.owner_url,
        "SELECT action, actor_kind, tenant_id, details ->> 'worker' AS worker FROM ferryman.job_audit"
        " WHERE job_id IS NULL ORDER BY at",
    )
    assert [tuple(row) for row in audit] == [
        ("worker_drain_requested", "platform", None, worker_id),
        ("worker_drain_withdrawn", "service", None, worker_id),
    ]


async def test_a_worker_that_beats_is_not_gone(api: Api, pipeline: Pipeline) -> None:
    async with pipeline.working(jobs) as worker:
        path = f"/api/workers/{worker.crew.identity.worker_id}"
        await pipeline.completed(await pipeline.submit("echo"))
        for bearer in (PLATFORM, token("admin")):
            assert (await api.call("DELETE", path, bearer=bearer)).code == "forbidden"
        reply = await api.call("DELETE", path, bearer=SERVICE)
        assert (reply.status, reply.code) == (409, "worker_alive")
        await pipeline.completed(await pipeline.submit("echo"))


async def test_the_jobs_of_a_worker_whose_pod_is_gone_run_again_at_once(
    api: Api, pipeline: Pipeline, ledger_database: Database, tmp_path: Path
) -> None:
    job_id = await pipeline.submit("hangs_once")
    process = worker_process(pipeline, tmp_path)
    process.start()
    try:
        job = await pipeline.reaches(job_id, JobStatus.RUNNING, within_s=20)
    finally:
        process.kill()
    async with pipeline.working(jobs):
        assert (await api.call("DELETE", f"/api/workers/{job.worker_id}", bearer=SERVICE)).status == 204
        began = time.monotonic()
        job = await pipeline.completed(job_id)
        assert time.monotonic() - began < 2
        assert (job.attempt, job.retry_count, job.crashes) == (2, 0, 1)
    assert job.worker_id not in await workers(api)
    ((details,),) = await rows(
        ledger_database.owner_url,
        "SELECT details ->> 'leasesEnded' FROM ferryman.job_audit WHERE action = 'worker_gone'",
    )
    assert details == "1"
    await assert_books(ledger_database.owner_url)


@pytest.mark.parametrize("worker_id", ["nobody", "x" * 101, "a%00b"])
async def test_of_an_unknown_worker_nothing_is_done(api: Api, worker_id: str) -> None:
    for method, path in (("POST", "/drain"), ("DELETE", "/drain"), ("DELETE", "")):
        reply = await api.call(method, f"/api/workers/{worker_id}{path}", bearer=SERVICE)
        assert (reply.status, reply.code) == (404, "not_found")


def worker_process(pipeline: Pipeline, folder: Path) -> Process:
    """A worker that can be killed; its handler of `hangs_once` does hang once."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FERRYMAN_")} | {
        "FERRYMAN_DATABASE_URL": pipeline.database_url,
        "FERRYMAN_REDIS_URL": pipeline.redis_url,
        "FERRYMAN_TEST_EFFECTS": str(folder / "effects.jsonl"),
    }
    arguments = ["worker", "--handlers", "tests.chaos.handlers"]
    return Process("worker", arguments, environment, folder / "worker.log")
