"""Random calls of three tenants in several roles against a model of who may see what.

Every answer, header, cursor and event is watched for what its reader has no right to, the sets that are
listed are compared with the model's, and no log line shows anybody's payload.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.support.api import PLATFORM, Api, on_fresh_stores
from tests.support.ends import complete, end, fail_for_good, introduce
from tests.support.isolation import TENANTS, Reader, World, no_canary
from tests.support.servers import Database
from tests.support.streams import Reader as Stream
from tests.support.streams import reading

STEPS = 1_500
QUEUES = ("default", "high_priority", "background")
NOBODY = "00000000-0000-7000-8000-000000000000"
Operation = Callable[[World, Reader], Awaitable[None]]


def body_of(world: World, reader: Reader, key: str | None = None) -> dict[str, object]:
    canary = world.canary(reader)
    return {
        "type": "chat",
        "queue": world.dice.choice(QUEUES),
        "input": {"secret": canary},
        "tags": ["shared", canary],
        "metadata": {"shared": "yes", "secret": canary},
        **({"delayMs": 3_600_000} if world.dice.random() < 0.2 else {}),
        **({} if key is None else {"uniqueKey": key}),
    }


def take(world: World, reader: Reader, body: dict[str, object], shown: dict[str, object]) -> None:
    assert reader.tenant is not None
    if not shown.get("duplicate"):
        world.own("job", str(shown["jobId"]), reader.tenant, reader.user, **body)


async def submit(world: World, reader: Reader) -> None:
    body = body_of(world, reader)
    reply = await world.call(reader, "POST", "/api/jobs", body)
    assert reply.status == (201 if reader.submits else 403)
    if reader.submits:
        take(world, reader, body, reply.json)


async def submit_bulk(world: World, reader: Reader) -> None:
    bodies = [body_of(world, reader) for _ in range(3)]
    reply = await world.call(reader, "POST", "/api/jobs/bulk", {"jobs": bodies})
    if reader.submits:
        for body, shown in zip(bodies, reply.json["jobs"], strict=True):
            take(world, reader, body, shown)


async def submit_unique(world: World, reader: Reader) -> None:
    """All tenants use the same keys: each has its own, and a twin in the tenant is told of its id alone."""
    if not reader.submits:
        return
    key = f"order-{world.dice.randrange(4)}"
    body = body_of(world, reader, key)
    holders = [one.id for one in world.things("job") if one.fields.get("uniqueKey") == key]
    shared = [one for one in holders if world.owned[one].tenant == reader.tenant]
    reply = await world.call(reader, "POST", "/api/jobs", body, shared=shared)
    assert reply.status in (200, 201)
    if reply.status == 200:
        assert reply.json["jobId"] in shared
        if not reader.may_see(str(reader.tenant), world.owned[reply.json["jobId"]].user):
            assert set(reply.json) == {"jobId", "status", "duplicate"}
    take(world, reader, body, reply.json)


async def submit_once(world: World, reader: Reader) -> None:
    """All use the same Idempotency-Keys: each user has its own."""
    if not reader.submits:
        return
    key = f"key-{world.dice.randrange(3)}-{reader.name}" if world.dice.random() < 0.3 else "same"
    body = body_of(world, reader)
    before = [one for one in world.things("key") if one.id == f"{reader.name}/{key}"]
    reply = await world.call(reader, "POST", "/api/jobs", body, {"Idempotency-Key": key})
    assert reply.status == (422 if before else 201)
    if before:
        again = await world.call(
            reader, "POST", "/api/jobs", before[0].fields["body"], {"Idempotency-Key": key}
        )
        assert again.headers["Idempotent-Replayed"] == "true"
        assert again.json["jobId"] == before[0].fields["job"]
        return
    take(world, reader, body, reply.json)
    job_id = reply.json["jobId"]
    world.own("key", f"{reader.name}/{key}", str(reader.tenant), reader.user, body=body, job=job_id)


async def finish(world: World, _: Reader) -> None:
    job = world.owned.get(world.any_id("job"))
    if job is None:
        return
    secret = f"canary-{job.tenant}-u{job.user}-{world.dice.getrandbits(32):08x}"
    if world.dice.random() < 0.5:
        await end(world.api, job.id, complete(b'{"said":"' + secret.encode() + b'"}'))
    elif await end(world.api, job.id, fail_for_good(f"no: {secret}", {"why": secret})):
        owner = Reader("the test", job.tenant, job.user or 0, "admin", "")
        reader = next(one for one in world.readers if one.tenant == owner.tenant and one.role == "admin")
        for letter in await world.pages(reader, "/api/dead-letters", "deadLetters", 200):
            if letter["originalJobId"] == job.id:
                world.own("letter", letter["deadLetterId"], job.tenant, job.user, job=job.id)
                world.letters_open.add(letter["deadLetterId"])


JOB_CALLS = (
    ("GET", "/api/jobs/{}"),
    ("GET", "/api/jobs/{}/history"),
    ("GET", "/api/jobs/{}/explain"),
    ("GET", "/api/jobs/{}/wait?timeoutMs=1"),
    ("POST", "/api/jobs/{}/cancel"),
)


async def touch_a_job(world: World, reader: Reader) -> None:
    job = world.owned.get(world.any_id("job"))
    method, path = world.dice.choice(JOB_CALLS)
    await touch(world, reader, method, path, job)


async def touch(world: World, reader: Reader, method: str, path: str, thing: object) -> None:
    """What one may not see is answered as what is not there, word for word."""
    if thing is None:
        return
    reason = {"X-Override-Reason": world.canary(reader)} if method != "GET" and reader.tenant else {}
    headers = {"X-Correlation-Id": "the-same", **reason}
    owned = world.owned[thing.id]  # type: ignore[attr-defined]
    reply = await world.call(reader, method, path.format(owned.id), headers=headers)
    if reader.may_see(owned.tenant, owned.user):
        assert reply.status in (200, 202, 204, 403, 409), reply.text
        return
    nothing = await world.call(reader, method, path.format(NOBODY), headers=headers)
    assert (reply.status, reply.text) == (nothing.status, nothing.text)
    assert reply.status in (403, 404)


async def retry_a_job(world: World, reader: Reader) -> None:
    job_id = world.any_id("job")
    job = world.owned.get(job_id)
    if job is None:
        return
    await touch(world, reader, "POST", "/api/jobs/{}/retry", job)
    await learn_letters(world, job.tenant)


async def touch_a_letter(world: World, reader: Reader) -> None:
    letter = world.owned.get(world.any_id("letter"))
    method, path = world.dice.choice(
        [
            ("GET", "/api/dead-letters/{}"),
            ("POST", "/api/dead-letters/{}/requeue"),
            ("DELETE", "/api/dead-letters/{}"),
        ]
    )
    await touch(world, reader, method, path, letter)
    if letter is not None:
        await learn_letters(world, letter.tenant)


async def learn_letters(world: World, tenant: str) -> None:
    """Which letters are still open, as the tenant's own admin sees it."""
    admin = next(one for one in world.readers if one.tenant == tenant and one.role == "admin")
    rows = await world.pages(admin, "/api/dead-letters?status=any", "deadLetters", 200)
    for row in rows:
        assert row["tenantId"] == tenant
        if row["status"] != "dead":
            world.letters_open.discard(row["deadLetterId"])
    assert {row["deadLetterId"] for row in rows} == {
        one.id for one in world.things("letter") if one.tenant == tenant
    }


async def list_jobs(world: World, reader: Reader) -> None:
    """With filters that others' jobs would match, too."""
    canary = world.canary(reader)
    jobs = world.things("job")
    if jobs:
        canary = world.dice.choice(jobs).fields["tags"][1]
    query, matches = world.dice.choice(
        [
            ("", lambda job: True),
            ("?tag=shared", lambda job: True),
            (f"?tag={canary}", lambda job: canary in job.fields["tags"]),
            (f"?metadata.secret={canary}", lambda job: canary in job.fields["tags"]),
            ("?userId=1&userId=3", lambda job: job.user in (1, 3)),
            ("?queue=high_priority", lambda job: job.fields["queue"] == "high_priority"),
            ("?type=chat&metadata.shared=yes", lambda job: True),
            ("?type=other", lambda job: False),
        ]
    )
    if reader.tenant is None:
        assert (await world.call(reader, "GET", "/api/jobs" + query)).status == 403
        return
    rows = await world.pages(reader, "/api/jobs" + query, "jobs", world.dice.choice([3, 50, 200]))
    seen = [row["jobId"] for row in rows]
    assert len(seen) == len(set(seen))
    assert set(seen) == {job.id for job in world.things("job", reader) if matches(job)}


async def list_letters(world: World, reader: Reader) -> None:
    if reader.tenant is None:
        assert (await world.call(reader, "GET", "/api/dead-letters")).status == 403
        return
    rows = await world.pages(reader, "/api/dead-letters", "deadLetters", world.dice.choice([2, 50]))
    wanted = {one.id for one in world.things("letter", reader) if one.id in world.letters_open}
    assert {row["deadLetterId"] for row in rows} == wanted


async def use_another_s_cursor(world: World, reader: Reader) -> None:
    """A cursor is a position in whatever one may see, and no right."""
    if not world.cursors or reader.tenant is None:
        return
    path, cursor = world.dice.choice(world.cursors)
    reply = await world.call(reader, "GET", f"{path}?cursor={cursor}")
    assert reply.status in (200, 403)


async def redrive(world: World, reader: Reader) -> None:
    """The digest of another tenant's preview moves nothing."""
    if reader.manages:
        preview = await world.call(reader, "POST", "/api/jobs/reconcile-dead-letter", {"dryRun": True})
        mine = [one for one in world.things("letter", reader) if one.id in world.letters_open]
        assert preview.json["matched"] == len(mine)
        world.digests.append((str(reader.tenant), preview.json["digest"]))
    if not world.digests:
        return
    tenant, digest = world.dice.choice(world.digests)
    if tenant == reader.tenant:
        return
    reply = await world.call(reader, "POST", "/api/jobs/reconcile-dead-letter", {"digest": digest})
    assert reply.status == (409 if reader.manages else 403)


async def apply_own_redrive(world: World, reader: Reader) -> None:
    if reader.manages and world.dice.random() < 0.3:
        await world.call(reader, "POST", "/api/jobs/reconcile-dead-letter", {"batchSize": 2})
        await learn_letters(world, str(reader.tenant))


async def read_figures(world: World, reader: Reader) -> None:
    stats = await world.call(reader, "GET", "/api/jobs/stats")
    if reader.tenant is None:
        assert stats.status == 403
    else:
        jobs = [one for one in world.things("job") if one.tenant == reader.tenant]
        assert stats.json["counts"]["submitted"] == len(jobs)
    status = await world.call(reader, "GET", "/api/jobs/queue/status?queue=default")
    assert status.status == 200


async def read_the_rest(world: World, reader: Reader) -> None:
    path = world.dice.choice(["/api/queues", "/api/queues/default", "/api/workers", "/api/me"])
    reply = await world.call(reader, "GET", path)
    assert reply.status in (200, 403)
    if reader.role not in ("platform", "service"):
        assert not [t for t in TENANTS if t != reader.tenant and t in reply.text], reply.text


async def read_audit(world: World, reader: Reader) -> None:
    if not reader.sees_all:
        assert (await world.call(reader, "GET", "/api/audit")).status == 403
        return
    rows = await world.pages(reader, "/api/audit?action=submitted", "entries", 200)
    assert {row["tenantId"] for row in rows} <= {reader.tenant}
    assert {row["jobId"] for row in rows} == {one.id for one in world.things("job", reader)}
    other = world.any_id("job")
    await world.call(reader, "GET", f"/api/audit?jobId={other}&limit=200")


async def add_a_webhook(world: World, reader: Reader) -> None:
    if world.dice.random() < 0.5:
        reader = world.dice.choice([one for one in world.readers if one.role == "admin"])
    url = f"https://hooks.example.com/{world.canary(reader)}"
    reply = await world.call(reader, "POST", "/api/webhooks", {"url": url})
    assert reply.status in ((201, 409) if reader.role == "admin" else (403,))
    if reply.status == 201:
        world.own("webhook", reply.json["webhookId"], str(reader.tenant), None)


async def touch_a_webhook(world: World, reader: Reader) -> None:
    method, path = world.dice.choice(
        [
            ("GET", "/api/webhooks/{}"),
            ("GET", "/api/webhooks/{}/deliveries"),
            ("POST", "/api/webhooks/{}/rotate-secret"),
        ]
    )
    await touch(world, reader, method, path, world.owned.get(world.any_id("webhook")))


async def list_webhooks(world: World, reader: Reader) -> None:
    reply = await world.call(reader, "GET", "/api/webhooks")
    if reply.status == 200:
        shown = {one["webhookId"] for one in reply.json["webhooks"]}
        assert shown == {one.id for one in world.things("webhook") if one.tenant == reader.tenant}


async def apply_retention(world: World, reader: Reader) -> None:
    reply = await world.call(reader, "POST", "/api/jobs/retention", {"dryRun": True})
    assert reply.status == (200 if reader.manages else 403)


OPERATIONS: tuple[tuple[int, Operation], ...] = (
    (6, submit),
    (2, submit_bulk),
    (4, submit_unique),
    (3, submit_once),
    (6, finish),
    (8, touch_a_job),
    (2, retry_a_job),
    (4, touch_a_letter),
    (4, list_jobs),
    (3, list_letters),
    (3, use_another_s_cursor),
    (3, redrive),
    (1, apply_own_redrive),
    (2, read_figures),
    (2, read_the_rest),
    (1, read_audit),
    (1, add_a_webhook),
    (2, touch_a_webhook),
    (1, list_webhooks),
    (1, apply_retention),
)


async def open_streams(world: World, stack: AsyncExitStack) -> list[tuple[Reader, Stream]]:
    """A stream of events for everybody who may have one."""
    streams = []
    for reader in world.readers:
        if reader.tenant is not None:
            opened = reading(world.api, "?coalesce=false", bearer=reader.bearer, headers=reader.headers)
            streams.append((reader, await stack.enter_async_context(opened)))
    return streams


async def read_stream(world: World, reader: Reader, stream: Stream) -> None:
    """Every job that the reader may see is heard of, and none other."""
    wanted = {job.id for job in world.things("job", reader)}
    heard: set[str] = set()
    async with asyncio.timeout(20):
        while heard != wanted:
            await stream.next()
            heard = {one["jobId"] for one in stream.frames if one["event"] == "job.changed"}
            assert heard <= wanted, (reader.name, stream.frames[-1])
    world.watch(reader, json.dumps(stream.frames))


async def resume_another_s(world: World, reader: Reader, other: Stream) -> None:
    """An event's id is a place in the log, and no right: what follows is the reader's own."""
    query = f"?coalesce=false&after={other.frames[0]['eventId']}"
    async with reading(world.api, query, bearer=reader.bearer, headers=reader.headers) as stream:
        await read_stream(world, reader, stream)


async def prepare(api: Api) -> None:
    """Workers are there, and the queue says something of each tenant."""
    await introduce(api, 2)
    settings = {"tenants": {tenant: {"weight": 2} for tenant in TENANTS}}
    assert (await api.call("PUT", "/api/queues/default", settings, bearer=PLATFORM)).status == 200


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_nobody_ever_sees_what_is_another_s(
    ledger_database: Database, redis_url: str, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "ferryman")
    async with (
        on_fresh_stores(ledger_database.service_url, redis_url) as api,
        AsyncExitStack() as stack,
    ):
        await prepare(api)
        world = World(api, random.Random(seed))
        streams = await open_streams(world, stack)
        weights = [weight for weight, _ in OPERATIONS]
        for _ in range(STEPS):
            ((_, operation),) = world.dice.choices(OPERATIONS, weights)
            await operation(world, world.dice.choice(world.readers))
        for reader in world.readers:
            for operation in (list_jobs, list_letters, read_figures, read_audit, list_webhooks):
                await operation(world, reader)
        for reader, stream in streams:
            await read_stream(world, reader, stream)
            await resume_another_s(world, reader, world.dice.choice(streams)[1])
        assert no_canary((await api.call("GET", "/metrics")).text)
    assert len(world.log) >= STEPS
    for kind in ("job", "letter", "webhook", "key"):
        assert len({one.tenant for one in world.things(kind)}) == len(TENANTS), kind
    logged = [str(vars(record)) for record in caplog.records if record.name.startswith("ferryman")]
    assert logged
    assert all(no_canary(line) for line in logged)
