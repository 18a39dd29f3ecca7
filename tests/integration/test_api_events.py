"""Live events: complete, in order, only one's own, and no slow reader holds up another."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID

import pytest
from aiohttp import ClientSession, TCPConnector, WSServerHandshakeError

from ferryman import Client
from ferryman.api.limits import Limits
from ferryman.auth.tokens import TokenRefusedError, TokenVerifier
from ferryman.core.events import Mark
from ferryman.core.job import Beat
from ferryman.dispatch.dispatcher import open_dispatcher
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.postgres import open_ledger
from tests.support.api import LIMITS, SERVICE, Api, on_fresh_stores, running, token, warm
from tests.support.ledgers import claim, connected, settlement
from tests.support.servers import Database
from tests.support.stack import free_port
from tests.support.streams import PROTOCOL, Reader, reading, server_sent

ADMIN = token("admin", user=9)
ORIGIN = "https://console.example.com"


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    limits = Limits(header_seconds=2, body_seconds=2, events_origins=(ORIGIN,))
    async with on_fresh_stores(ledger_database.service_url, redis_url, limits=limits) as api:
        yield api


async def lived(api: Api, **fields: object) -> str:
    """A job that was submitted, claimed and completed."""
    job_id = UUID(await api.submitted(**fields))
    attempts = api.ledger.attempts
    assert isinstance(attempts, Attempts)
    (claimed,) = await claim(attempts, job_id)
    await attempts.settle("w1", [settlement(claimed)])
    return str(job_id)


async def history(api: Api, job_id: str) -> list[tuple[str, str]]:
    rows = (await api.call("GET", f"/api/jobs/{job_id}/history")).json["history"]
    return [(row["auditId"], row["action"]) for row in rows]


async def test_a_job_s_audit_is_what_the_stream_shows(api: Api) -> None:
    async with reading(api) as reader:
        job_id = await lived(api, tags=["eu"], priority=7)
        frames = await reader.jobs(3)
        assert [(one["auditId"], one["action"]) for one in frames] == await history(api, job_id)
        assert [one["status"] for one in frames] == ["pending", "running", "completed"]
        last = frames[-1]
        assert (last["jobId"], last["tags"], last["priority"], last["userId"]) == (job_id, ["eu"], 7, 1)
        assert last["type"] == "chat"
        assert not {"input", "output"} & last.keys()
        ids = [one["eventId"] for one in frames]
        assert ids == sorted(set(ids))


async def test_a_failed_job_and_its_dead_letter(api: Api) -> None:
    async with reading(api, "?coalesce=false") as reader:
        job_id = await api.submitted(delayMs=60_000)
        assert (await reader.next("job.changed"))["status"] == "scheduled"
        await api.call("POST", f"/api/jobs/{job_id}/cancel")
        frame = await reader.next("job.changed")
        assert (frame["action"], frame["status"]) == ("cancelled", "cancelled")


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_resume_at_random_cuts_has_no_gap_and_no_repeat(api: Api, seed: int) -> None:
    dice = random.Random(seed)
    seen: list[str] = []
    after = ""

    async def work() -> None:
        for _ in range(20):
            await lived(api)
            await asyncio.sleep(dice.random() / 50)

    async with reading(api) as reader:
        after = reader.frames[0]["eventId"]
    working = asyncio.create_task(work())
    while len(seen) < 60:
        async with reading(api, f"?coalesce=false&after={after}") as reader:
            wanted = min(dice.randint(1, 9), 60 - len(seen))
            while sum(one["event"] == "job.changed" for one in reader.frames) < wanted:
                await reader.next()
            frames = [one for one in reader.frames if one["event"] == "job.changed"]
            seen += [one["auditId"] for one in frames]
            after = frames[-1]["eventId"]
    await working
    entries = []
    cursor = ""
    while cursor is not None:
        page = (await api.call("GET", f"/api/audit?limit=200{cursor}", bearer=ADMIN)).json
        entries += [one["auditId"] for one in page["entries"]]
        cursor = page["nextCursor"] and f"&cursor={page['nextCursor']}"
    assert seen == entries[::-1]


async def test_a_transaction_that_commits_late_is_not_skipped(api: Api, ledger_database: Database) -> None:
    async with reading(api) as reader, connected(ledger_database.owner_url) as late:
        async with late.transaction():
            await late.execute(
                "INSERT INTO ferryman.job_audit (tenant_id, actor_kind, actor_id, action, job_id, to_status)"
                " VALUES ('acme', 'user', '1', 'submitted', $1, 'pending')",
                UUID(int=5),
            )
            job_ids = [await api.submitted() for _ in range(3)]
        # Without a row its job is nobody's: an admin sees it, a user does not.
        assert [one["jobId"] for one in await reader.jobs(3)] == job_ids
        query = f"?after={reader.frames[0]['eventId']}"
        async with reading(api, query, bearer=ADMIN) as admin:
            frames = [*admin.frames, *(await admin.jobs(3))]
            shown = [one["jobId"] for one in frames if one["event"] == "job.changed"]
            assert shown == [str(UUID(int=5)), *job_ids]


async def test_filters_and_subscriptions(api: Api) -> None:
    async with reading(api, "?type=chat&queue=background&tag=eu") as reader:
        await api.submitted(queue="background")
        await api.submitted(tags=["eu"])
        wanted = await api.submitted(queue="background", tags=["eu", "b"])
        assert (await reader.next("job.changed"))["jobId"] == wanted
        await reader.socket.send_json({"subscribe": {"status": ["cancelled"]}})
        assert (await reader.next("subscribed"))["count"] == 2
        other = await api.submitted(type="memory")
        await api.call("POST", f"/api/jobs/{other}/cancel")
        assert (await reader.next("job.changed"))["action"] == "cancelled"
        await reader.socket.send_json({"unsubscribe": {"status": ["cancelled"]}})
        assert (await reader.next("subscribed"))["count"] == 1
        await api.call("POST", f"/api/jobs/{await api.submitted(type='memory')}/cancel")
        wanted = await api.submitted(queue="background", tags=["eu"])
        assert (await reader.next("job.changed"))["jobId"] == wanted


async def test_walls(api: Api) -> None:
    async with (
        reading(api) as mine,
        reading(api, bearer=token(user=2)) as other,
        reading(api, bearer=token("viewer", user=3)) as viewer,
        reading(api, bearer=token(tenant="globex")) as foreign,
        reading(api, bearer=SERVICE, headers={"X-Tenant-Id": "globex"}) as service,
    ):
        first = await api.submitted()
        second = await api.submitted(bearer=token(user=2))
        third = await api.submitted(bearer=token(tenant="globex"))
        assert (await mine.next("job.changed"))["jobId"] == first
        assert (await other.next("job.changed"))["jobId"] == second
        assert [one["jobId"] for one in await viewer.jobs(2)] == [first, second]
        for reader in (foreign, service):
            assert (await reader.next("job.changed"))["jobId"] == third
            status = await reader.next("queue.status")
            assert (status["queue"], status["pending"]) == ("default", 1)
        for reader in (mine, other, viewer):
            assert (await reader.next("queue.status"))["pending"] == 2
            assert all(one.get("tenantId", "acme") == "acme" for one in reader.frames)
        after = mine.frames[0]["eventId"]
    async with reading(api, f"?after={after}", bearer=token(tenant="globex")) as foreign:
        assert {one["jobId"] for one in foreign.frames if "jobId" in one} <= {third}


@pytest.mark.parametrize(
    ("bearer", "code"),
    [
        ("forged", "unauthorized"),
        (token("platform"), "forbidden"),
        (token("nothing"), "forbidden"),
        (SERVICE, "tenant_required"),
    ],
)
async def test_who_may_not(api: Api, bearer: str, code: str) -> None:
    headers = {"Accept": "text/event-stream"}
    assert (await api.call("GET", "/api/events", bearer=bearer, headers=headers)).code == code


async def test_foreign_origins_are_refused(api: Api) -> None:
    for origin in ("https://evil.example.com", "null", ORIGIN + ".evil.com"):
        reply = await api.call(
            "GET", "/api/events", headers={"Accept": "text/event-stream", "Origin": origin}
        )
        assert (reply.status, reply.code) == (403, "origin_refused")
        with pytest.raises(WSServerHandshakeError) as refused:
            await api.session.ws_connect("/api/events", protocols=[PROTOCOL], origin=origin)
        assert refused.value.status == 403
    async with reading(api, headers={"Origin": ORIGIN}):
        pass
    assert (await api.call("GET", "/api/events")).code == "not_a_stream"


async def test_a_browser_says_who_it_is_in_its_first_message(api: Api) -> None:
    async with api.session.ws_connect("/api/events", protocols=[PROTOCOL], origin=ORIGIN) as socket:
        assert socket.protocol == PROTOCOL
        await socket.send_json({"hello": {"token": token()}})
        reader = Reader(socket)
        await reader.next("ready")
        job_id = await api.submitted()
        frame = await reader.next("job.changed")
        assert frame["jobId"] == job_id
        await socket.send_json({"renew": {"token": token(ttl_s=900)}})
        await socket.send_json({"renew": {"token": token(user=2)}})
        assert await reader.closed() == 4403
    async with api.session.ws_connect("/api/events", protocols=[PROTOCOL]) as socket:
        await socket.send_json({"hello": {"token": token(), "lastEventId": reader.frames[0]["eventId"]}})
        assert (await Reader(socket).next("job.changed"))["jobId"] == job_id
    for first, code in (({"hello": {"token": "x"}}, 4401), ({"subscribe": {}}, 4401), ({"x": 1}, 1008)):
        async with api.session.ws_connect("/api/events", protocols=[PROTOCOL]) as socket:
            await socket.send_json(first)
            assert await Reader(socket).closed() == code


async def test_messages_are_bounded_and_understood(api: Api) -> None:
    async with reading(api) as reader:
        await reader.socket.send_str(json.dumps({"subscribe": {"tag": ["x" * 5_000]}}))
        assert await reader.closed() == 1009
    for message in ('{"subscribe":{"bogus":1}}', "{}", "[", '{"subscribe":{"status":["nothing"]}}'):
        async with reading(api) as reader:
            await reader.socket.send_str(message)
            assert await reader.closed() == 1008


async def test_a_stream_ends_with_its_token(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferryman.api.streams.TOKEN_SECONDS", 0.05)
    monkeypatch.setattr("ferryman.auth.tokens.TokenVerifier.authenticate", _expiring(time.monotonic() + 1))
    async with reading(api) as reader:
        assert await reader.closed() == 4401


def _expiring(at: float) -> object:
    async def authenticate(self: TokenVerifier, bearer: str) -> object:
        if time.monotonic() > at:
            raise TokenRefusedError("it has expired")
        return self.verify(bearer)

    return authenticate


async def test_server_sent_events_resume(api: Api) -> None:
    events = server_sent(api, "?type=chat")
    ready = await anext(events)
    assert (ready["event"], len(ready["id"])) == ("ready", 48)
    first = await api.submitted()
    frame = await anext(events)
    assert (frame["event"], json.loads(frame["data"])["jobId"]) == ("job.changed", first)
    assert json.loads(frame["data"])["eventId"] == frame["id"]
    await events.aclose()
    second = await api.submitted()
    for events in (
        server_sent(api, **{"Last-Event-ID": frame["id"]}),
        server_sent(api, f"?after={frame['id']}"),
    ):
        frames = [await anext(events), await anext(events)]
        jobs = [json.loads(one["data"])["jobId"] for one in frames if one["event"] == "job.changed"]
        assert jobs == [second]
        await events.aclose()


async def test_a_place_that_is_gone_is_a_gap(api: Api) -> None:
    async with reading(api) as reader:
        mark = reader.frames[0]["eventId"]
    raw = bytes.fromhex(mark)
    old = Mark(int.from_bytes(raw[:8], "big"), UUID(int=int.from_bytes(raw[8:], "big") - (86_401_000 << 80)))
    foreign = Mark(2**40, UUID(bytes=raw[8:]))
    for gone in (old, foreign):
        async with reading(api, f"?after={gone}") as reader:
            assert reader.frames[0]["event"] == "gap"
            job_id = await api.submitted()
            assert (await reader.next("job.changed"))["jobId"] == job_id


async def test_a_flood_is_cut_short(api: Api) -> None:
    async with reading(api) as reader, reading(api, "?coalesce=false") as patient:
        for _ in range(2):
            await api.call("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}] * 200})
        await patient.jobs(400)
        frame = await reader.next("coalesced")
        shown = sum(one["event"] == "job.changed" for one in reader.frames)
        assert shown == 100
        assert frame["changed"] <= 300
        assert frame["eventId"] <= patient.frames[-1].get("eventId", "f")


async def test_a_slow_reader_is_closed_while_others_go_on(api: Api) -> None:
    async with reading(api, "?coalesce=false") as slow, reading(api, "?coalesce=false") as quick:
        slow.socket._conn.protocol.transport.pause_reading()  # type: ignore[union-attr] - a reader that hangs
        total = 0
        while api.metrics.value("ferryman_event_streams_closed_slow_total") == 0:
            assert total < 60_000
            await api.call(
                "POST", "/api/jobs/bulk", {"jobs": [{"type": "chat", "tags": ["x" * 60] * 20}] * 500}
            )
            await quick.jobs(500)
            total += 500
        slow.socket._conn.protocol.transport.resume_reading()  # type: ignore[union-attr]
        assert await slow.closed() == 1013
        await api.submitted()
        await quick.jobs(1)


async def test_streams_of_a_user_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferryman.lifecycle.events.STREAMS_PER_USER", 2)
    async with reading(api), reading(api):
        reply = await api.call("GET", "/api/events", headers={"Accept": "text/event-stream"})
        assert (reply.status, reply.code) == (429, "too_many_streams")
        async with reading(api, bearer=token(user=2)):
            pass
    async with reading(api):
        pass


def beat_of(worker_id: str, busy: int) -> Beat:
    return Beat(
        worker_id=worker_id,
        pod="p",
        queues=["default"],
        types=["chat"],
        slots=2,
        busy=busy,
        state="running",
        held=[],
    )


async def test_workers_are_shown_to_those_who_may_see_them(api: Api) -> None:
    async with reading(api, bearer=ADMIN) as admin, reading(api) as user:
        changed = asyncio.create_task(admin.next("worker.changed"))
        busy = 0
        while not changed.done():  # what was there at the first look is no change
            await api.ledger.attempts.beat(beat_of("w-9", busy := 1 - busy))
            await asyncio.wait([changed], timeout=0.3)
        frame = await changed
        assert (frame["workerId"], frame["state"]) == ("w-9", "running")
        await api.ledger.attempts.leave("w-9")
        while (await admin.next("worker.changed"))["state"] != "gone":
            pass
        await api.submitted()
        await user.next("queue.status")
        assert all(one["event"] != "worker.changed" for one in user.frames)


async def test_a_stopping_api_lets_its_readers_go(ledger_database: Database, redis_url: str) -> None:
    async with AsyncExitStack() as readers:
        async with on_fresh_stores(ledger_database.service_url, redis_url, limits=LIMITS) as api:
            session = await readers.enter_async_context(ClientSession(f"http://127.0.0.1:{api.port}"))
            reader = await readers.enter_async_context(reading(api, session=session))
            closing = asyncio.create_task(reader.closed())
        assert await closing == 1001


async def test_five_hundred_readers(api: Api) -> None:
    """Ten for each of fifty users; each hears of its own user's job, and of no other."""
    users = 50
    async with AsyncExitStack() as open_readers, asyncio.timeout(90):
        session = await open_readers.enter_async_context(
            ClientSession(f"http://127.0.0.1:{api.port}", connector=TCPConnector(limit=0))
        )
        bearers = [token(user=user) for user in range(users)]
        readers = [
            await open_readers.enter_async_context(reading(api, bearer=bearer, session=session))
            for bearer in bearers
            for _ in range(10)
        ]
        job_ids = [await api.submitted(bearer=bearer) for bearer in bearers]
        frames = await asyncio.gather(*(reader.next("job.changed", within_s=30) for reader in readers))
        assert [one["jobId"] for one in frames] == [job_id for job_id in job_ids for _ in range(10)]
        await asyncio.gather(*(reader.socket.close() for reader in readers))


async def test_the_client_goes_on_after_a_cut(ledger_database: Database, redis_url: str) -> None:
    """The API stops and another one comes at the same address; in between a job is stored."""
    port = free_port()
    async with open_ledger(ledger_database.service_url) as ledger:
        dispatcher = open_dispatcher(redis_url)
        await warm(ledger, dispatcher)
        async with Client(f"http://127.0.0.1:{port}", token()) as client:
            events = client.events(type=["chat"])
            job_ids: list[str] = []
            for _ in range(2):
                async with running(ledger, dispatcher, port=port) as api:
                    if not job_ids:
                        assert (await anext(events)).kind == "ready"
                    job_ids.append(await api.submitted())
                    while (changed := await anext(events)).kind != "job.changed":
                        assert changed.kind in ("ready", "queue.status")
                    assert changed.data["jobId"] == job_ids[-1]
            await events.aclose()
        await dispatcher.close()
