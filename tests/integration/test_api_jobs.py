"""Jobs over REST, on real stores."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Settlement
from ferryman.core.verdict import Complete, DeadLetter, RetryAt, Verdict
from tests.support.api import SERVICE, Api, on_fresh_stores, token, warm
from tests.support.servers import Database
from tests.support.waiting import eventually

ADMIN = token("admin", user=2)
OTHER_USER = token(user=3)
VIEWER = token("viewer", user=4)
FOREIGN_ADMIN = token("admin", tenant="globex")
BROKEN = Failure(
    error_class=ErrorClass.PERMANENT, message="it broke", details={"line": 3}, fingerprint="f" * 16
)


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    """The API on a database and a Redis of the test's own, every queue known to both."""
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def run(api: Api, verdict: Verdict | None = None, *, queue: str = "default") -> str:
    """What a worker does with the next job of a queue; None: leave it running. The job's id."""
    step = await api.dispatcher.step(queue, ended=[], tokens=[uuid4()], lease_ms=30_000)
    (claimed,) = await api.ledger.attempts.claim(
        "w1", step.claimed, queue="default", types=["chat", "memory"]
    )
    if verdict is not None:
        end = Settlement(
            id=claimed.id,
            token=claimed.token,
            attempt=claimed.attempt,
            verdict=verdict,
            run_ms=5,
            wait_ms=claimed.wait_ms,
            max_retries=claimed.max_retries,
        )
        await api.dispatcher.push(await api.ledger.attempts.settle("w1", [end]))
    return str(claimed.id)


async def test_the_curl_line_of_the_contract(api: Api) -> None:
    body = {"message": "Test enterprise job pipeline", "type": "chat"}
    reply = await api.call("POST", "/api/jobs", body)
    assert reply.status == 201
    answer = reply.json
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f-]{17}", answer["jobId"])
    assert (answer["status"], answer["queue"], answer["duplicate"]) == ("pending", "default", False)
    assert reply.headers["Location"] == f"/api/jobs/{answer['jobId']}"
    job = (await api.call("GET", reply.headers["Location"])).json
    assert job["input"] == {"message": "Test enterprise job pipeline"}
    assert job["attempts"] == []


async def test_every_field_comes_back(api: Api) -> None:
    fields: dict[str, Any] = {
        "input": {"a": [1, 2.5, None, "ü"]},
        "queue": "background",
        "priority": 7,
        "maxRetries": 2,
        "retryDelayMs": 0,
        "visibilityTimeoutMs": 100,
        "timeoutMs": 1_234,
        "tags": ["b", "a", 'c,"\\{}'],
        "metadata": {"order": 12, "paid": True, "who": "ann", "rate": 1.5},
        "uniqueKey": "k:1",
    }
    trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
    headers = {"X-Correlation-Id": "order-1:a.b", "traceparent": trace}
    reply = await api.call(
        "POST", "/api/jobs", {"type": "chat", "delayMs": 60_000, "ttlMs": 90_000, **fields}, headers=headers
    )
    assert (reply.status, reply.json["status"]) == (201, "scheduled")
    job = (await api.call("GET", f"/api/jobs/{reply.json['jobId']}")).json
    assert {name: job[name] for name in fields} == fields
    assert (job["tenantId"], job["userId"], job["status"]) == ("acme", 1, "scheduled")
    assert (job["correlationId"], job["traceId"]) == ("order-1:a.b", "ab" * 16)
    assert job["createdAt"] < job["runAt"] < job["expiresAt"]
    assert (job["error"], job["output"], job["nextRetryAt"], job["progress"]) == (None, None, None, None)


async def test_a_job_with_its_attempts_and_retry_state(api: Api) -> None:
    job_id = await api.submitted()
    failure = Failure(error_class=ErrorClass.TRANSIENT, message="503", details={}, fingerprint="a" * 16)
    await run(api, RetryAt(60_000, failure))
    job = (await api.call("GET", f"/api/jobs/{job_id}")).json
    assert (job["status"], job["attempt"], job["retryCount"]) == ("retrying", 1, 1)
    assert job["nextRetryAt"] == job["runAt"]
    (attempt,) = job["attempts"]
    assert (attempt["attempt"], attempt["error"]["class"], attempt["countsAsRetry"]) == (1, "TRANSIENT", True)
    assert (await api.call("POST", f"/api/jobs/{job_id}/retry")).status == 202
    assert await run(api, Complete(b'{"done":true}')) == job_id
    job = (await api.call("GET", f"/api/jobs/{job_id}")).json
    assert (job["status"], job["output"], len(job["attempts"])) == ("completed", {"done": True}, 2)
    history = (await api.call("GET", f"/api/jobs/{job_id}/history")).json
    actions = [row["action"] for row in history["history"]]
    assert actions == ["submitted", "claimed", "retried", "hurried", "claimed", "completed"]
    assert history["history"][0]["actor"] == {"kind": "user", "id": "1"}


async def test_a_history_pages(api: Api) -> None:
    job_id = await api.submitted()
    await run(api, Complete(b"{}"))
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = (await api.call("GET", f"/api/jobs/{job_id}/history?limit=1{more}")).json
        seen += [row["action"] for row in page["history"]]
        cursor = page["nextCursor"]
    assert seen == ["submitted", "claimed", "completed"]


async def test_in_bulk_all_or_none_in_order(api: Api) -> None:
    jobs = [
        {"type": "chat", "queue": queue, "priority": n}
        for n, queue in enumerate(["default", "background"] * 3)
    ]
    reply = await api.call("POST", "/api/jobs/bulk", {"jobs": jobs})
    assert reply.status == 201
    assert [one["priority"] for one in reply.json["jobs"]] == list(range(6))
    assert [one["queue"] for one in reply.json["jobs"]] == ["default", "background"] * 3
    refused = await api.call(
        "POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}, {"type": "chat", "queue": "nowhere"}]}
    )
    assert (refused.status, refused.code) == (422, "unknown_queue")
    assert len((await api.call("GET", "/api/jobs?limit=200")).json["jobs"]) == 6


async def test_a_thousand_at_once_and_not_one_more(api: Api) -> None:
    reply = await api.call("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}] * 1_000})
    assert (reply.status, len(reply.json["jobs"])) == (201, 1_000)
    for count in (0, 1_001):
        refused = await api.call("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}] * count})
        assert (refused.status, refused.paths) == (400, ["jobs"])


async def test_a_unique_key_holds_one_unfinished_job(api: Api) -> None:
    job_id = await api.submitted(uniqueKey="k")
    again = await api.submit(uniqueKey="k")
    assert (again.status, again.json["jobId"], again.json["duplicate"]) == (200, job_id, True)
    other = await api.submit(uniqueKey="k", bearer=OTHER_USER)
    assert (other.status, set(other.json)) == (200, {"jobId", "status", "duplicate"})
    assert (await api.submit(uniqueKey="k", type="memory")).status == 201
    assert (await api.submit(uniqueKey="k", bearer=FOREIGN_ADMIN)).status == 201
    bulk = await api.call("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat", "uniqueKey": "k"}] * 2})
    assert bulk.status == 200
    assert await run(api, Complete(b"{}")) == job_id
    assert (await api.submit(uniqueKey="k")).status == 201


async def test_a_full_queue(api: Api) -> None:
    small = {"maxSize": 2, "maxBacklog": 1}
    await api.call("PUT", "/api/queues/small", small, bearer=SERVICE)
    await warm(api.ledger, api.dispatcher)
    for _ in range(3):
        await api.submitted(queue="small")
    full = await api.submit(queue="small")
    assert (full.status, full.code) == (429, "queue_full")
    assert int(full.headers["Retry-After"]) >= 1
    bulk = await api.call(
        "POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}, {"type": "chat", "queue": "small"}]}
    )
    assert (bulk.status, bulk.code) == (429, "queue_full")
    assert len((await api.call("GET", "/api/jobs?limit=200")).json["jobs"]) == 3
    status = (await api.call("GET", "/api/jobs/queue/status?queue=small")).json
    assert (status["size"], status["backlog"], status["pending"]) == (2, 1, 3)


async def test_many_callers_never_fill_a_queue_over_its_limit(api: Api) -> None:
    await api.call("PUT", "/api/queues/small", {"maxSize": 20, "maxBacklog": 0}, bearer=SERVICE)
    await warm(api.ledger, api.dispatcher)
    replies = await asyncio.gather(*(api.submit(queue="small") for _ in range(60)))
    assert sorted(reply.status for reply in replies) == [201] * 20 + [429] * 40


async def test_lists_page_newest_first_and_filter(api: Api) -> None:
    ids = [
        await api.submitted(tags=[f"n{n % 2}"], metadata={"n": n}, type="chat" if n < 4 else "memory")
        for n in range(6)
    ]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await api.call("GET", f"/api/jobs?limit=4{f'&cursor={cursor}' if cursor else ''}")).json
        seen += [job["jobId"] for job in page["jobs"]]
        cursor = page["nextCursor"]
    assert seen == ids[::-1]

    async def found(query: str) -> list[str]:
        return [job["jobId"] for job in (await api.call("GET", f"/api/jobs?{query}")).json["jobs"]]

    assert await found("type=memory") == ids[:3:-1]
    assert await found("type=memory&type=chat") == ids[::-1]
    assert await found("tag=n1&type=chat") == [ids[3], ids[1]]
    assert await found("tag=n0&tag=n1") == []
    assert await found("metadata.n=2") == [ids[2]]
    assert await found("status=running") == []
    created = (await api.call("GET", f"/api/jobs/{ids[3]}")).json["createdAt"]
    assert ids[3] in await found(f"createdAfter={created}")
    assert ids[3] not in await found(f"createdBefore={created}")
    await api.call("POST", f"/api/jobs/{ids[0]}/cancel")
    assert await found("status=cancelled") == [ids[0]]
    assert await found("queue=background") == []


async def test_cancelling_a_waiting_job_ends_it(api: Api) -> None:
    job_id = await api.submitted()
    reply = await api.call("POST", f"/api/jobs/{job_id}/cancel")
    assert (reply.status, reply.json) == (202, {"jobId": job_id, "status": "cancelled"})
    again = await api.call("POST", f"/api/jobs/{job_id}/cancel")
    assert (again.status, again.code) == (409, "already_final")
    figures = await api.dispatcher.figures("default", tenant_id=None)
    assert figures is not None
    assert figures.pending == 0
    retried = await api.call("POST", f"/api/jobs/{job_id}/retry")
    assert (retried.status, retried.code) == (409, "not_retryable")


async def test_cancelling_a_running_job_asks_its_worker(api: Api) -> None:
    job_id = await api.submitted()
    await run(api)
    reply = await api.call("POST", f"/api/jobs/{job_id}/cancel")
    assert (reply.status, reply.json["status"]) == (202, "running")
    assert (await api.call("GET", f"/api/jobs/{job_id}")).json["cancelRequested"] is True
    claimed = (await api.ledger.jobs.positions([UUID(job_id)]))[0]
    assert claimed.token is not None
    assert await api.dispatcher.beat("default", [(claimed.id, claimed.token, "acme", 30_000)]) == [claimed.id]


async def test_waiting_for_the_end(api: Api) -> None:
    job_id = await api.submitted()
    waiting = asyncio.create_task(api.call("GET", f"/api/jobs/{job_id}/wait?timeoutMs=20000"))
    await run(api, Complete(b'{"x":1}'))
    reply = await waiting
    assert (reply.json["status"], reply.json["output"]) == ("completed", {"x": 1})
    early = await api.call("GET", f"/api/jobs/{await api.submitted()}/wait?timeoutMs=1")
    assert (early.status, early.json["status"]) == (200, "pending")


async def test_dead_letters(api: Api) -> None:
    job_id = await api.submitted(input={"a": 1}, tags=["t"])
    await run(api, DeadLetter(BROKEN))
    (letter,) = (await api.call("GET", "/api/dead-letters")).json["deadLetters"]
    assert (letter["originalJobId"], letter["status"], letter["fingerprint"]) == (job_id, "dead", "f" * 16)
    assert letter["error"] == {"class": "PERMANENT", "message": "it broke", "details": {"line": 3}}
    one = (await api.call("GET", f"/api/dead-letters/{letter['deadLetterId']}")).json
    assert (one["input"], len(one["attempts"])) == ({"a": 1}, 1)
    path = f"/api/dead-letters/{letter['deadLetterId']}"
    assert (await api.call("DELETE", path)).status == 403
    assert (await api.call("POST", f"{path}/requeue", bearer=OTHER_USER)).status == 404
    requeued = await api.call("POST", f"{path}/requeue")
    assert (requeued.status, requeued.json["status"]) == (202, "requeued")
    again = await api.call("POST", f"{path}/requeue")
    assert (again.status, again.code) == (409, "not_dead")
    assert await run(api, DeadLetter(BROKEN)) == job_id
    (second,) = (await api.call("GET", "/api/dead-letters")).json["deadLetters"]
    assert second["redrives"] == 1
    path = f"/api/dead-letters/{second['deadLetterId']}"
    discarded = await api.call("DELETE", path, bearer=ADMIN, headers={"X-Override-Reason": "spam"})
    assert (discarded.status, discarded.json["status"]) == (200, "discarded")
    assert (await api.call("GET", path)).json["status"] == "discarded"
    assert (await api.call("GET", "/api/dead-letters")).json["deadLetters"] == []
    assert len((await api.call("GET", "/api/dead-letters?status=any")).json["deadLetters"]) == 2
    assert (await api.call("DELETE", path, bearer=ADMIN)).code == "not_dead"


async def test_reconciling_by_digest_moves_what_was_previewed(api: Api) -> None:
    ids = [await api.submitted() for _ in range(3)]
    for _ in ids[:2]:
        await run(api, DeadLetter(BROKEN))
    filters = {"queue": "default", "errorClass": "PERMANENT"}
    preview = (
        await api.call("POST", "/api/jobs/reconcile-dead-letter", {**filters, "dryRun": True}, bearer=ADMIN)
    ).json
    assert (preview["matched"], len(preview["sample"])) == (2, 2)
    await run(api, DeadLetter(BROKEN))
    apply = {**filters, "digest": preview["digest"]}
    moved = (await api.call("POST", "/api/jobs/reconcile-dead-letter", apply, bearer=ADMIN)).json
    assert moved == {"requeued": 2, "skipped": 0, "remaining": 1}
    spent = await api.call("POST", "/api/jobs/reconcile-dead-letter", apply, bearer=ADMIN)
    assert (spent.status, spent.code) == (409, "digest_unknown")
    foreign = await api.call("POST", "/api/jobs/reconcile-dead-letter", {}, bearer=FOREIGN_ADMIN)
    assert foreign.json == {"requeued": 0, "skipped": 0, "remaining": 0}
    across = await api.call(
        "POST", "/api/jobs/reconcile-dead-letter", {"ratePerSecond": 0.001}, bearer=SERVICE
    )
    assert across.json == {"requeued": 1, "skipped": 0, "remaining": 0}
    assert {await run(api) for _ in range(3)} == set(ids)


async def test_an_admin_s_override_is_audited_with_its_reason(api: Api) -> None:
    job_id = await api.submitted()
    headers = {"X-Override-Reason": "asked for by phone"}
    assert (await api.call("POST", f"/api/jobs/{job_id}/cancel", bearer=ADMIN, headers=headers)).status == 202
    last = (await api.call("GET", f"/api/jobs/{job_id}/history")).json["history"][-1]
    assert (last["actor"], last["override"], last["overrideReason"]) == (
        {"kind": "admin", "id": "2"},
        True,
        "asked for by phone",
    )
    own = await api.submitted(bearer=ADMIN)
    await api.call("POST", f"/api/jobs/{own}/cancel", bearer=ADMIN)
    last = (await api.call("GET", f"/api/jobs/{own}/history", bearer=ADMIN)).json["history"][-1]
    assert last["override"] is False


async def test_stats_and_retention(api: Api) -> None:
    await api.submitted()
    await api.submitted()
    await run(api, Complete(b"{}"))
    stats = (await api.call("GET", "/api/jobs/stats?queue=default")).json
    assert (stats["counts"]["submitted"], stats["counts"]["completed"], stats["successRate"]) == (2, 1, 1.0)
    assert (await api.call("GET", "/api/jobs/stats", bearer=FOREIGN_ADMIN)).json["counts"]["submitted"] == 0
    wrong = await api.call("GET", "/api/jobs/stats?from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z")
    assert (wrong.status, wrong.paths) == (400, ["from"])
    kept = await api.call("POST", "/api/jobs/retention", {"dryRun": True}, bearer=ADMIN)
    assert kept.json == {
        "dryRun": True,
        "completed": 0,
        "cancelled": 0,
        "expired": 0,
        "deadLetters": 0,
        "audit": 0,
    }
    settings = {"retention": {"completedMs": 0}}
    await api.call("PUT", "/api/queues/default", settings, bearer=SERVICE)

    async def pruned() -> int:
        return int((await api.call("POST", "/api/jobs/retention", bearer=SERVICE)).json["completed"])

    assert await eventually(pruned) == 1


@pytest.mark.parametrize("bulk", [False, True])
async def test_an_idempotency_key_stores_once(api: Api, bulk: bool) -> None:
    path = "/api/jobs/bulk" if bulk else "/api/jobs"
    body: dict[str, object] = {"jobs": [{"type": "chat"}] * 3} if bulk else {"type": "chat"}

    async def send(key: str, body: object = body, bearer: str | None = None) -> Any:
        return await api.call("POST", path, body, headers={"Idempotency-Key": key}, bearer=bearer)

    first, again = await send("k"), await send("k")
    assert (first.status, again.status, again.json) == (201, 201, first.json)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers.get("Location") == first.headers.get("Location")
    other = await send("k", {"jobs": [{"type": "memory"}]} if bulk else {"type": "memory"})
    assert (other.status, other.code) == (422, "idempotency_mismatch")
    assert (await send("k", bearer=OTHER_USER)).json != first.json
    twins = await asyncio.gather(*(send("twins") for _ in range(8)))
    assert {reply.status for reply in twins} <= {201, 409}
    assert len({reply.text for reply in twins if reply.status == 201}) == 1
    stored = (await api.call("GET", "/api/jobs?limit=200", bearer=ADMIN)).json["jobs"]
    assert len(stored) == 3 * (3 if bulk else 1)


async def test_a_refused_submission_leaves_its_key_free(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"type": "chat", "queue": "later"}
    assert (await api.call("POST", "/api/jobs", body, headers=headers)).status == 422
    await api.call("PUT", "/api/queues/later", {}, bearer=SERVICE)
    assert (await api.call("POST", "/api/jobs", body, headers=headers)).status == 201


@pytest.mark.parametrize("key", ["", "k" * 201, "a\tb"])
async def test_a_key_out_of_bounds(api: Api, key: str) -> None:
    reply = await api.call("POST", "/api/jobs", {"type": "chat"}, headers={"Idempotency-Key": key})
    assert (reply.status, reply.paths) == (400, ["Idempotency-Key"])
