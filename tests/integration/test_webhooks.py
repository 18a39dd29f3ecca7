"""Webhooks from end to end: endpoints over REST, a relay, a worker, and a receiver that checks signatures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from ferryman import Registry
from ferryman.core.queues import QueueSettings, RetrySettings
from ferryman.core.status import JobStatus
from ferryman.core.webhooks import DELIVERY_TYPE, MAX_WEBHOOKS, WEBHOOK_QUEUE
from ferryman.wiring import SystemClock
from ferryman.worker.courier import Courier
from ferryman.worker.deliveries import delivery_registry
from tests.support.api import LIMITS, PLATFORM, SERVICE, Api, running, token
from tests.support.commands import clean_environment, ferryman, installation
from tests.support.commands import running as running_command
from tests.support.ledgers import USER, assert_books, rows, value
from tests.support.receivers import Receiver, at_rest, receiving
from tests.support.servers import Database
from tests.support.waiting import eventually
from tests.support.workers import Pipeline, opened_pipeline

ADMIN = token("admin")
GLOBEX = token("admin", tenant="globex")
SOON = QueueSettings(
    timeout_ms=20_000, retry=RetrySettings(max_retries=3, initial_delay_ms=10, max_delay_ms=10, jitter=False)
)


@dataclass(frozen=True)
class Scene:
    """An API and the pipeline behind it, a receiver, and a database to look into."""

    api: Api
    pipeline: Pipeline
    receiver: Receiver
    database: Database

    async def endpoint(self, bearer: str = ADMIN, **fields: object) -> dict[str, Any]:
        """A new endpoint at the receiver, with its secret."""
        body = {"url": self.receiver.url, "events": ["job.submitted"], **fields}
        reply = await self.api.call("POST", "/api/webhooks", body, bearer=bearer)
        assert reply.status == 201, reply.text
        made: dict[str, Any] = reply.json
        return made

    async def get(self, webhook: dict[str, Any]) -> dict[str, Any]:
        reply = await self.api.call("GET", f"/api/webhooks/{webhook['webhookId']}", bearer=ADMIN)
        found: dict[str, Any] = reply.json
        return found

    async def deliveries(self, webhook: dict[str, Any]) -> list[dict[str, Any]]:
        path = f"/api/webhooks/{webhook['webhookId']}/deliveries"
        found: list[dict[str, Any]] = (await self.api.call("GET", path, bearer=ADMIN)).json["deliveries"]
        return found

    async def settled(self, webhook: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
        """The deliveries, once so many have come to their end."""

        async def look() -> list[dict[str, Any]]:
            return await self.deliveries(webhook)

        def over(found: list[dict[str, Any]]) -> bool:
            return [one["status"] in ("completed", "dead_letter") for one in found] == [True] * count

        return await eventually(look, over, within_s=15)

    @asynccontextmanager
    async def delivering(self, *, allow_private: bool = True) -> AsyncIterator[None]:
        """A relay and a worker of the system's queue for the block."""
        await self.pipeline.ledger.queues.put(WEBHOOK_QUEUE, SOON, USER)
        await self.pipeline.warm(WEBHOOK_QUEUE)
        async with (
            self.pipeline.maintained(),
            self.pipeline.working(self.handlers(allow_private), queues=(WEBHOOK_QUEUE,)),
        ):
            yield

    async def relayed(self) -> None:
        """One step of the relay that sees all that has happened."""
        await at_rest(self.database.owner_url)
        await self.pipeline.ledger.webhooks.relay()

    def handlers(self, allow_private: bool = True) -> Registry:
        courier = Courier(allow_private=allow_private)
        webhooks = self.pipeline.ledger.webhooks
        return delivery_registry(webhooks, courier, SystemClock().now, self.pipeline.metrics)

    async def audited(self, action: str) -> list[dict[str, Any]]:
        found = await rows(
            self.database.owner_url,
            "SELECT tenant_id, details::text AS details FROM ferryman.job_audit WHERE action = $1",
            action,
        )
        return [{"tenant": row["tenant_id"], **msgspec.json.decode(row["details"])} for row in found]


@pytest.fixture
async def scene(ledger_database: Database, redis_url: str) -> AsyncIterator[Scene]:
    limits = replace(LIMITS, webhooks_allow_private=True)
    async with (
        opened_pipeline(ledger_database.service_url, redis_url) as pipeline,
        running(pipeline.ledger, pipeline.dispatcher, limits=limits) as api,
        receiving() as receiver,
    ):
        yield Scene(api, pipeline, receiver, ledger_database)


async def test_a_failing_receiver_is_tried_again_until_it_takes_the_event(scene: Scene) -> None:
    webhook = await scene.endpoint()
    scene.receiver.answers = [500, 302]
    async with scene.delivering():
        job_id = await scene.api.submitted(tags=["a"], metadata={"order": 7}, input={"secret": 1})
        (delivery,) = await scene.settled(webhook)
    assert (delivery["status"], delivery["attempts"], delivery["responseCode"]) == ("completed", 3, 204)
    assert (delivery["event"], delivery["jobId"], delivery["error"]) == ("job.submitted", job_id, None)
    assert len({*scene.receiver.verified(webhook["secret"])}) == 1
    assert len({body for _, body in scene.receiver.requests}) == 1
    event = scene.receiver.events[0]
    assert event["eventId"] == delivery["eventId"] == scene.receiver.verified(webhook["secret"])[0]
    job = event["job"]
    assert (job["jobId"], job["status"], job["tags"], job["metadata"]) == (
        job_id, "pending", ["a"], {"order": 7},
    )  # fmt: skip
    assert "secret" not in scene.receiver.requests[0][1].decode()
    assert (await scene.get(webhook))["failures"] == 0
    await assert_books(scene.database.owner_url)


async def test_both_secrets_sign_after_a_rotation_and_an_older_one_no_longer(scene: Scene) -> None:
    webhook = await scene.endpoint()
    path = f"/api/webhooks/{webhook['webhookId']}/rotate-secret"
    second = (await scene.api.call("POST", path, bearer=ADMIN)).json["secret"]
    rotated = (await scene.api.call("POST", path, bearer=ADMIN)).json
    assert rotated["previousSecretExpiresAt"] is not None
    target = await scene.pipeline.ledger.webhooks.target(UUID(webhook["webhookId"]))
    assert target is not None
    assert target.secrets == [rotated["secret"], second]
    async with scene.delivering():
        await scene.api.submitted()
        await scene.settled(webhook)
    signature = scene.receiver.requests[0][0]["Ferryman-Signature"]
    assert signature.count(",v1=") == 2
    for secret in (second, rotated["secret"]):
        assert scene.receiver.verified(secret)
    with pytest.raises(Exception, match="no signature fits"):
        scene.receiver.verified(webhook["secret"])
    await rows(scene.database.owner_url, "UPDATE ferryman.webhook_secrets SET expires_at = now()"
               " WHERE expires_at IS NOT NULL")  # fmt: skip
    target = await scene.pipeline.ledger.webhooks.target(UUID(webhook["webhookId"]))
    assert target is not None
    assert target.secrets == [rotated["secret"]]


async def test_an_endpoint_that_is_gone_is_disabled(scene: Scene) -> None:
    webhook = await scene.endpoint()
    scene.receiver.answers = [410]
    async with scene.delivering():
        await scene.api.submitted()
        (delivery,) = await scene.settled(webhook)
        assert (delivery["status"], delivery["responseCode"]) == ("dead_letter", 410)
        seen = await scene.get(webhook)
        assert (seen["enabled"], seen["disabledReason"]) == (False, "gone")
        assert seen["disabledAt"] is not None
        (row,) = await scene.audited("webhook_disabled")
        assert (row["tenant"], row["webhookId"], row["reason"]) == ("acme", webhook["webhookId"], "gone")
        await scene.api.submitted()
        body = {"url": scene.receiver.url, "events": ["job.submitted"]}
        path = f"/api/webhooks/{webhook['webhookId']}"
        again = (await scene.api.call("PUT", path, body, bearer=ADMIN)).json
        assert (again["enabled"], again["disabledReason"], again["disabledAt"]) == (True, None, None)
        told = await scene.api.submitted()
        newest, _ = await scene.settled(webhook, 2)
    assert (newest["jobId"], newest["status"]) == (told, "completed")


async def test_an_endpoint_that_fails_for_long_is_disabled(scene: Scene) -> None:
    webhook = await scene.endpoint()
    store, webhook_id = scene.pipeline.ledger.webhooks, UUID(webhook["webhookId"])
    long_ago = "UPDATE ferryman.webhooks SET failing_since = now() - interval '61 minutes'"
    assert not any([await store.failed(webhook_id, is_gone=False) for _ in range(25)])
    await store.delivered(webhook_id)
    assert [await store.failed(webhook_id, is_gone=False) for _ in range(2)] == [False, False]
    await rows(scene.database.owner_url, long_ago)
    assert [await store.failed(webhook_id, is_gone=False) for _ in range(18)] == [False] * 17 + [True]
    assert not await store.failed(webhook_id, is_gone=False)
    seen = await scene.get(webhook)
    assert (seen["enabled"], seen["disabledReason"], seen["failures"]) == (False, "failing", 20)
    assert [row["reason"] for row in await scene.audited("webhook_disabled")] == ["failing"]


async def test_what_was_on_its_way_to_a_disabled_or_removed_endpoint_is_not_sent(scene: Scene) -> None:
    removed, disabled = await scene.endpoint(), await scene.endpoint()
    await scene.api.submitted()
    await scene.relayed()
    path = f"/api/webhooks/{removed['webhookId']}"
    assert (await scene.api.call("DELETE", path, bearer=ADMIN)).status == 204
    assert (await scene.api.call("DELETE", path, bearer=ADMIN)).status == 404
    body = {"url": scene.receiver.url, "enabled": False}
    await scene.api.call("PUT", f"/api/webhooks/{disabled['webhookId']}", body, bearer=ADMIN)
    async with scene.delivering():
        (delivery,) = await scene.settled(disabled)
        assert (delivery["status"], delivery["error"]) == ("dead_letter", "the endpoint is disabled")
    assert scene.receiver.requests == []


async def test_an_internal_address_is_refused_when_it_is_given_and_when_it_is_due(scene: Scene) -> None:
    webhook = await scene.endpoint()
    async with scene.delivering(allow_private=False):
        await scene.api.submitted()
        (delivery,) = await scene.settled(webhook)
    assert (delivery["status"], delivery["attempts"], delivery["responseCode"]) == ("dead_letter", 4, None)
    assert scene.receiver.requests == []
    async with running(scene.pipeline.ledger, scene.pipeline.dispatcher, limits=LIMITS) as strict:
        for url in (scene.receiver.url, "https://127.0.0.1/", "https://localhost/", "nonsense"):
            reply = await strict.call("POST", "/api/webhooks", {"url": url}, bearer=ADMIN)
            assert (reply.status, reply.paths) == (400, ["url"]), url
            path = f"/api/webhooks/{webhook['webhookId']}"
            assert (await strict.call("PUT", path, {"url": url}, bearer=ADMIN)).paths == ["url"]


async def test_a_tenant_s_own_job_of_the_type_delivers_nothing(scene: Scene) -> None:
    webhook = await scene.endpoint()
    event = {"eventId": "forged", "event": "job.completed"}
    document = msgspec.json.encode({"webhookId": webhook["webhookId"], "event": event})
    job_id = await scene.pipeline.submit(DELIVERY_TYPE, document)
    async with scene.pipeline.working(scene.handlers()):
        await scene.pipeline.reaches(job_id, JobStatus.DEAD_LETTER)
    assert scene.receiver.requests == []


async def test_the_secret_is_shown_once(scene: Scene) -> None:
    webhook = await scene.endpoint()
    assert webhook["secret"].startswith("whsec_")
    assert len(webhook["secret"]) >= 6 + 43
    listed = await scene.api.call("GET", "/api/webhooks", bearer=ADMIN)
    seen = await scene.api.call("GET", f"/api/webhooks/{webhook['webhookId']}", bearer=ADMIN)
    assert {key: value for key, value in webhook.items() if key != "secret"} == seen.json
    assert listed.json == {"webhooks": [seen.json]}
    trail = await value(
        scene.database.owner_url, "SELECT string_agg(a::text, ' ') FROM ferryman.job_audit AS a"
    )
    assert "webhook_created" in trail
    assert webhook["secret"] not in trail + listed.text + seen.text


async def test_endpoints_are_their_tenant_s_admin_s(scene: Scene) -> None:
    webhook = await scene.endpoint()
    path = f"/api/webhooks/{webhook['webhookId']}"
    calls: list[tuple[str, str, object]] = [
        ("GET", path, None),
        ("PUT", path, {"url": scene.receiver.url}),
        ("DELETE", path, None),
        ("POST", f"{path}/rotate-secret", None),
        ("GET", f"{path}/deliveries", None),
    ]
    for method, place, body in calls:
        assert (await scene.api.call(method, place, body, bearer=GLOBEX)).code == "not_found"
        nowhere = place.replace(webhook["webhookId"], str(uuid4()))
        assert (await scene.api.call(method, nowhere, body, bearer=ADMIN)).code == "not_found"
        for bearer in (token("user"), token("viewer"), PLATFORM, SERVICE):
            assert (await scene.api.call(method, place, body, bearer=bearer)).code == "forbidden"
    assert (await scene.api.call("GET", "/api/webhooks", bearer=GLOBEX)).json == {"webhooks": []}
    assert await scene.get(webhook) == {key: value for key, value in webhook.items() if key != "secret"}


async def test_a_tenant_has_so_many_endpoints_and_no_more(scene: Scene) -> None:
    for _ in range(MAX_WEBHOOKS):
        await scene.endpoint()
    reply = await scene.api.call("POST", "/api/webhooks", {"url": scene.receiver.url}, bearer=ADMIN)
    assert (reply.status, reply.code) == (409, "too_many_webhooks")
    await scene.endpoint(GLOBEX)


@pytest.mark.parametrize(
    ("field", "bad", "path"),
    [
        ("url", 7, "url"),
        ("events", ["completed"], "events[0]"),
        ("queues", ["Nope!"], "queues[0]"),
        ("types", ["a b"], "types[0]"),
        ("enabled", "yes", "enabled"),
        ("secret", "mine", "secret"),
    ],
)
async def test_bad_fields_are_named(scene: Scene, field: str, bad: object, path: str) -> None:
    body = {"url": scene.receiver.url, field: bad}
    reply = await scene.api.call("POST", "/api/webhooks", body, bearer=ADMIN)
    assert (reply.status, reply.paths) == (400, [path])


async def test_deliveries_page(scene: Scene) -> None:
    webhook = await scene.endpoint()
    ids = [await scene.api.submitted() for _ in range(5)]
    await scene.relayed()
    path = f"/api/webhooks/{webhook['webhookId']}/deliveries?limit=2"
    found: list[str] = []
    cursor = ""
    while True:
        page = (await scene.api.call("GET", path + cursor, bearer=ADMIN)).json
        found += [one["jobId"] for one in page["deliveries"]]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert sorted(found) == sorted(ids)


async def test_the_system_s_queue_is_the_system_s(scene: Scene) -> None:
    webhook = await scene.endpoint()
    await scene.api.submitted()
    await scene.relayed()
    assert len(await scene.deliveries(webhook)) == 1
    place = f"/api/queues/{WEBHOOK_QUEUE}"

    async def names(path: str, bearer: str) -> list[str]:
        return [one["queue"] for one in (await scene.api.call("GET", path, bearer=bearer)).json["queues"]]

    for path in ("/api/queues", "/api/jobs/queue/status"):
        assert WEBHOOK_QUEUE not in await names(path, ADMIN)
        assert WEBHOOK_QUEUE in await names(path, PLATFORM)
    for path in (place, f"/api/jobs/queue/status?queue={WEBHOOK_QUEUE}"):
        assert (await scene.api.call("GET", path, bearer=ADMIN)).code == "not_found"
        assert (await scene.api.call("GET", path, bearer=PLATFORM)).status == 200
    assert (await scene.api.submit(bearer=ADMIN, queue=WEBHOOK_QUEUE)).code == "unknown_queue"
    assert (await scene.api.call("DELETE", place, bearer=PLATFORM)).code == "built_in"
    assert (await scene.api.call("PUT", "/api/queues/system.mine", {}, bearer=PLATFORM)).code == "built_in"
    assert (await scene.api.call("PUT", place, {}, bearer=PLATFORM)).status == 200
    jobs = (await scene.api.call("GET", "/api/jobs", bearer=ADMIN)).json["jobs"]
    assert [job["queue"] for job in jobs] == ["default"]


async def test_a_worker_of_the_system_s_queue_needs_no_handlers(scene: Scene) -> None:
    webhook = await scene.endpoint()
    await scene.pipeline.ledger.queues.put(WEBHOOK_QUEUE, SOON, USER)
    settings = installation(scene.database, scene.pipeline.redis_url)
    settings |= {"FERRYMAN_WEBHOOK_ALLOW_PRIVATE": "true"}
    worker = ("worker", "--queue", WEBHOOK_QUEUE)
    async with running_command(*worker, environment=clean_environment(**settings)) as process:
        await scene.api.submitted()
        (delivery,) = await scene.settled(webhook)
        assert delivery["status"] == "completed"
        assert scene.receiver.verified(webhook["secret"]) == [delivery["eventId"]]
        assert await process.stop() == 0


async def test_an_arq_settings_class_leaves_the_system_s_queue_to_others(scene: Scene) -> None:
    settings = installation(scene.database, scene.pipeline.redis_url)
    queues = ("--queue", "default", "--queue", WEBHOOK_QUEUE)
    arq = ("--settings", "tests.integration.test_webhooks.ArqSettings")
    environment = clean_environment(**settings)
    done = await ferryman("worker", *queues, *arq, environment=environment)
    assert done.returncode == 2
    assert "takes a worker of its own" in done.stderr
    alone = await ferryman("worker", "--queue", "default", environment=environment)
    assert "FERRYMAN_HANDLERS is not set" in alone.stderr


class ArqSettings:
    """An arq settings class as it stands."""

    @staticmethod
    async def task(ctx: dict[str, Any]) -> None:
        """Nothing."""

    functions = [task]
