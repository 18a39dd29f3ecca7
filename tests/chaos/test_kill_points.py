"""A process dies between any two steps of the engine, and everything heals by itself within ten seconds."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
import asyncpg
import pytest
import redis.asyncio as redis

from ferryman import failpoints
from tests.chaos.check import stuck, violations
from tests.support.stack import Api, Process, Stack, call, running_stack, until_ready
from tests.support.waiting import eventually

HEALED_WITHIN_S = 10.0
KILLED = -signal.SIGKILL


class Scene:
    """One stack and what a scenario needs to play on it, with a queue of its own."""

    def __init__(self, stack: Stack, session: aiohttp.ClientSession, ledger: asyncpg.Connection[Any]) -> None:
        self.stack = stack
        self.session = session
        self.ledger = ledger
        self.queue = f"q-{secrets.token_hex(4)}"
        self.acknowledged: list[str] = []

    async def api(self, failpoint: str | None = None) -> Api:
        api = self.stack.api(**({"FERRYMAN_FAILPOINT": failpoint} if failpoint else {}))
        await until_ready(self.session, api)
        return api

    async def make_queue(self, api: Api, **settings: Any) -> None:
        url = f"{api.url}/api/queues/{self.queue}"
        status, body = await self.call("PUT", url, "platform", json=settings)
        assert status == 201, body
        async with redis.Redis.from_url(self.stack.redis.url) as client:
            await eventually(partial(client.hexists, f"fm:{{{self.queue}}}:meta", "epoch"), within_s=20)

    def worker(self, failpoint: str | None = None) -> Process:
        armed = {"FERRYMAN_FAILPOINT": failpoint} if failpoint else {}
        return self.stack.worker("--queue", self.queue, "--concurrency", "4", **armed)

    async def call(self, method: str, url: str, role: str = "user", **options: Any) -> tuple[int, Any]:
        return await call(self.session, method, url, self.stack.token(role), **options)

    async def submit(self, api: Api, job_type: str, **fields: Any) -> str:
        body = {"type": job_type, "queue": self.queue, **fields}
        status, answer = await self.call("POST", f"{api.url}/api/jobs", json=body)
        assert status == 201, answer
        self.acknowledged.append(answer["jobId"])
        return str(answer["jobId"])

    async def dies(self, process: Process) -> None:
        """The armed process kills itself."""
        assert await process.ended(within_s=20) == KILLED

    async def reaches(self, job_id: str, status: str, within_s: float = HEALED_WITHIN_S) -> None:
        async def look() -> str | None:
            return await self.ledger.fetchval("SELECT status FROM ferryman.jobs WHERE id = $1", job_id)

        await eventually(look, lambda seen: seen == status, within_s=within_s)

    async def jobs_of_queue(self) -> list[str]:
        rows = await self.ledger.fetch("SELECT id::text FROM ferryman.jobs WHERE queue_name = $1", self.queue)
        return [row[0] for row in rows]

    async def nothing_is_left(self) -> None:
        """At rest: no stuck job, no broken promise, and a worker still takes new work."""

        async def look() -> list[str]:
            return await stuck(self.ledger, self.queue)

        await eventually(look, lambda found: not found, within_s=HEALED_WITHIN_S)
        assert await violations(self.ledger, self.acknowledged) == []


Scenario = Callable[[Scene, str], Awaitable[None]]


async def submission_dies(scene: Scene, point: str) -> None:
    api = await scene.api()
    await scene.make_queue(api)
    armed = await scene.api(point)
    with pytest.raises(aiohttp.ClientError):
        await scene.call("POST", f"{armed.url}/api/jobs", json={"type": "quick", "queue": scene.queue})
    await scene.dies(armed)
    scene.worker()
    stored = await scene.jobs_of_queue()
    assert len(stored) == (0 if point == "submit.before_insert" else 1)
    for job_id in stored:
        await scene.reaches(job_id, "completed")


async def cancel_dies(scene: Scene, point: str) -> None:
    api = await scene.api()
    await scene.make_queue(api)
    job_id = await scene.submit(api, "quick")
    armed = await scene.api(point)
    with pytest.raises(aiohttp.ClientError):
        await scene.call("POST", f"{armed.url}/api/jobs/{job_id}/cancel")
    await scene.dies(armed)
    scene.worker()
    await scene.reaches(await scene.submit(api, "quick"), "completed")
    await scene.reaches(job_id, "cancelled")


async def retry_dies(scene: Scene, point: str) -> None:
    api = await scene.api()
    await scene.make_queue(api)
    scene.worker()
    job_id = await scene.submit(api, "flaky", input={"fails": 1}, retryDelayMs=86_400_000, maxRetries=1)

    async def visible() -> Any:
        return (await scene.call("GET", f"{api.url}/api/jobs/{job_id}"))[1].get("status")

    await eventually(visible, lambda status: status == "retrying", within_s=20)
    armed = await scene.api(point)
    with pytest.raises(aiohttp.ClientError):
        await scene.call("POST", f"{armed.url}/api/jobs/{job_id}/retry")
    await scene.dies(armed)
    await scene.reaches(job_id, "completed")


async def worker_dies(scene: Scene, point: str) -> None:
    api = await scene.api()
    await scene.make_queue(api)
    armed = scene.worker(point)
    job_id = await scene.submit(api, "quick")
    await scene.dies(armed)
    scene.worker()
    await scene.reaches(job_id, "completed")


async def stopping_worker_dies(scene: Scene, point: str) -> None:
    api = await scene.api()
    await scene.make_queue(api)
    armed = scene.worker(point)
    job_id = await scene.submit(api, "hangs_once")
    await scene.reaches(job_id, "running", within_s=20)
    armed.send(signal.SIGTERM)
    await scene.dies(armed)
    scene.worker()
    await scene.reaches(job_id, "completed")


async def reaper_dies(scene: Scene, point: str) -> None:
    armed = await scene.api(point)  # alone, so that its maintainer leads
    await scene.make_queue(armed, visibilityTimeoutMs=1_000)
    victim = scene.worker()
    job_id = await scene.submit(armed, "hangs_once")
    await scene.reaches(job_id, "running", within_s=20)
    async with redis.Redis.from_url(scene.stack.redis.url) as client:
        await eventually(partial(client.zcard, f"fm:{{{scene.queue}}}:lease"))
    victim.kill()
    await scene.dies(armed)
    await scene.api()
    scene.worker()
    await scene.reaches(job_id, "completed")


async def expirer_dies(scene: Scene, point: str) -> None:
    armed = await scene.api(point)
    await scene.make_queue(armed)
    job_id = await scene.submit(armed, "quick", ttlMs=200)
    await scene.dies(armed)
    api = await scene.api()
    scene.worker()
    await scene.reaches(job_id, "expired")
    await scene.reaches(await scene.submit(api, "quick"), "completed")


async def rebuilder_dies(scene: Scene, point: str) -> None:
    armed = await scene.api(point)
    await scene.make_queue(armed)
    waiting = [await scene.submit(armed, "quick") for _ in range(5)]
    async with redis.Redis.from_url(scene.stack.redis.url) as client:
        await client.flushall()
    await scene.dies(armed)
    await scene.api()
    scene.worker()
    for job_id in waiting:
        await scene.reaches(job_id, "completed")


async def sweeper_dies(scene: Scene, point: str) -> None:
    armed = await scene.api(point)
    await scene.make_queue(armed)
    async with redis.Redis.from_url(scene.stack.redis.url) as client:
        prefix = f"fm:{{{scene.queue}}}"
        job_id = await scene.submit(armed, "quick")
        assert await client.delete(f"{prefix}:t:acme", f"{prefix}:ring") == 2
    await scene.dies(armed)
    await scene.api()
    scene.worker()
    await scene.reaches(job_id, "completed")


async def receiver_dies(scene: Scene, point: str) -> None:
    armed = await scene.api(point)
    await scene.make_queue(armed)
    await scene.ledger.execute(
        "INSERT INTO ferryman.tenant_grants (db_role, tenant_id) VALUES (session_user, 'acme')"
    )
    job_id = await scene.ledger.fetchval("SELECT ferryman.enqueue('quick', queue => $1)::text", scene.queue)
    scene.acknowledged.append(job_id)
    await scene.dies(armed)
    await scene.api()
    scene.worker()
    await scene.reaches(job_id, "completed")


async def relay_dies(scene: Scene, point: str) -> None:
    armed = await scene.api(point)
    await scene.make_queue(armed)
    status, webhook = await scene.call(
        "POST", f"{armed.url}/api/webhooks", "admin", json={"url": "https://hooks.example.com/"}
    )
    assert status == 201, webhook
    job_id = await scene.submit(armed, "quick")
    await scene.dies(armed)
    await scene.api()
    scene.worker()
    await scene.reaches(job_id, "completed")

    async def told() -> list[str]:
        rows = await scene.ledger.fetch(
            "SELECT metadata ->> 'event' FROM ferryman.jobs WHERE metadata ->> 'webhookId' = $1"
            " AND metadata ->> 'jobId' = $2 AND queue_name = 'system.webhooks' ORDER BY 1",
            webhook["webhookId"],
            job_id,
        )
        return [row[0] for row in rows]

    events = [f"job.{action}" for action in ("claimed", "completed", "submitted")]
    await eventually(told, lambda found: found == events, within_s=HEALED_WITHIN_S)
    # Nobody serves the system's queue here, and what waits in it would be taken for stuck.
    await scene.ledger.execute("DELETE FROM ferryman.webhooks")
    scene.stack.worker("--queue", "system.webhooks", "--concurrency", "4")


SCENARIOS: dict[str, Scenario] = {
    "submit.before_insert": submission_dies,
    "submit.after_insert": submission_dies,
    "submit.after_push": submission_dies,
    "cancel.after_ledger": cancel_dies,
    "retry.after_ledger": retry_dies,
    "worker.after_step": worker_dies,
    "worker.after_claim": worker_dies,
    "worker.in_handler": worker_dies,
    "worker.before_settle": worker_dies,
    "worker.after_settle": worker_dies,
    "worker.after_release": worker_dies,
    "worker.on_stop": stopping_worker_dies,
    "maintainer.after_overdue": reaper_dies,
    "maintainer.after_reap": reaper_dies,
    "maintainer.after_resync": reaper_dies,
    "maintainer.after_expire": expirer_dies,
    "maintainer.in_rebuild": rebuilder_dies,
    "maintainer.after_sweep": sweeper_dies,
    "maintainer.after_take": receiver_dies,
    "maintainer.in_relay": relay_dies,
    "maintainer.after_relay": relay_dies,
}


@pytest.fixture(scope="module")
async def servers() -> AsyncIterator[Stack]:
    async with running_stack() as stack:
        yield stack


@pytest.fixture
async def scene(servers: Stack) -> AsyncIterator[Scene]:
    ledger = await servers.connect()
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
            yield Scene(servers, session, ledger)
    except BaseException:
        print(servers.logs())
        raise
    finally:
        servers.end_processes()
        await ledger.close()


def test_every_kill_point_has_its_scenario() -> None:
    assert set(SCENARIOS) == failpoints.NAMES


@pytest.mark.parametrize("point", SCENARIOS)
async def test_a_death_heals(scene: Scene, point: str) -> None:
    await SCENARIOS[point](scene, point)
    await scene.nothing_is_left()
