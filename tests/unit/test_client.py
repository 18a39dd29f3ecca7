"""The client against a server that answers as it is told: requests, retries, errors by remedy."""

import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from ferryman.client import (
    Client,
    ClientError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    QueueFullError,
    RateLimitedError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)
from ferryman.core.status import JobStatus

JOB = {
    "jobId": "0190a1b2-0000-7000-8000-000000000001",
    "tenantId": "acme",
    "userId": 1,
    "type": "chat",
    "queue": "default",
    "status": "completed",
    "createdAt": "2026-01-31T08:00:00.123Z",
    "error": {"class": "TRANSIENT", "message": "once", "details": {}},
    "attempts": [{"attempt": 1}],
    "somethingNew": True,
}

EXPLANATION = {
    "jobId": "0190a1b2-0000-7000-8000-000000000001",
    "status": "pending",
    "reasons": [
        {"code": "paused", "message": "The queue default is paused.", "details": {"queue": "default"}},
        {"code": "position", "message": "It is the next job of its tenant.", "details": {"ahead": 0}},
    ],
    "estimatedStart": {"earliest": "2026-01-31T08:00:00.000Z", "latest": "2026-01-31T08:01:00.000Z"},
    "source": "redis",
}


@dataclass
class Answering:
    """A server that gives the planned answers in order, the last one for ever, and keeps the questions."""

    url: str = ""
    plan: list[web.Response | Callable[[web.Request], web.Response]] = field(default_factory=list)
    asked: list[tuple[str, str, CIMultiDict[str], Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path_qs, CIMultiDict(request.headers), body))
        answer = self.plan.pop(0) if len(self.plan) > 1 else self.plan[0]
        if callable(answer):
            return answer(request)
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


@pytest.fixture
async def server() -> AsyncIterator[Answering]:
    answering = Answering()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answering.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    answering.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield answering
    await runner.cleanup()


@pytest.fixture
async def client(server: Answering) -> AsyncIterator[Client]:
    async with Client(server.url, "token-of-ours", timeout=5) as client:
        yield client


def problem(status: int, code: str, **more: Any) -> web.Response:
    document = {"type": "about:blank", "title": "No", "status": status, "detail": "because", "code": code}
    headers = {"Retry-After": "7"} if status == 429 else {}
    return web.json_response(document | more, status=status, headers=headers)


async def test_submit_sends_the_fields_of_the_contract(server: Answering, client: Client) -> None:
    server.plan = [web.json_response({"jobId": "j1", "status": "scheduled", "queue": "emails"}, status=201)]
    run_at = datetime(2026, 1, 31, 8, tzinfo=UTC)
    submitted = await client.submit(
        "chat", {"message": "hi"}, queue="emails", visibility_timeout_ms=500, run_at=run_at, tags=["a"]
    )
    assert (submitted.job_id, submitted.status, submitted.duplicate) == ("j1", JobStatus.SCHEDULED, False)
    method, path, headers, body = server.asked[0]
    assert (method, path) == ("POST", "/api/jobs")
    assert headers["Authorization"] == "Bearer token-of-ours"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Correlation-Id"]
    assert "Idempotency-Key" not in headers
    assert body == {
        "type": "chat",
        "input": {"message": "hi"},
        "queue": "emails",
        "visibilityTimeoutMs": 500,
        "runAt": "2026-01-31T08:00:00+00:00",
        "tags": ["a"],
    }


async def test_submit_many_keeps_the_order(server: Answering, client: Client) -> None:
    server.plan = [
        web.json_response(
            {"jobs": [{"jobId": "a", "status": "pending"}, {"jobId": "b", "status": "pending"}]}, status=201
        )
    ]
    answers = await client.submit_many([{"type": "x"}, {"type": "y", "input": {"n": 1}, "max_retries": 0}])
    assert [answer.job_id for answer in answers] == ["a", "b"]
    assert server.asked[0][3] == {"jobs": [{"type": "x"}, {"type": "y", "input": {"n": 1}, "maxRetries": 0}]}


async def test_get_gives_a_typed_job_and_ignores_what_is_new(server: Answering, client: Client) -> None:
    server.plan = [web.json_response(JOB)]
    job = await client.get("../queues")
    assert server.asked[0][1] == "/api/jobs/..%2Fqueues"
    assert job.status is JobStatus.COMPLETED
    assert job.has_ended
    assert job.created_at == datetime(2026, 1, 31, 8, 0, 0, 123_000, tzinfo=UTC)
    assert job.error is not None
    assert job.error.error_class == "TRANSIENT"


async def test_explain_says_why_in_types(server: Answering, client: Client) -> None:
    server.plan = [web.json_response(EXPLANATION)]
    answer = await client.explain("j1")
    assert server.asked[0][:2] == ("GET", "/api/jobs/j1/explain")
    assert [(reason.code, reason.details) for reason in answer.reasons] == [
        ("paused", {"queue": "default"}),
        ("position", {"ahead": 0}),
    ]
    assert answer.estimated_start is not None
    assert answer.estimated_start.latest == datetime(2026, 1, 31, 8, 1, tzinfo=UTC)


async def test_list_sends_repeated_filters(server: Answering, client: Client) -> None:
    server.plan = [web.json_response({"jobs": [JOB], "nextCursor": "c2"})]
    page = await client.list(status=["running", "retrying"], tag=["a&b"], metadata={"k": "v"}, cursor="c1")
    assert page.next_cursor == "c2"
    assert server.asked[0][1] == (
        "/api/jobs?status=running&status=retrying&tag=a%26b&limit=50&cursor=c1&metadata.k=v"
    )


async def test_wait_asks_until_the_job_has_ended(server: Answering, client: Client) -> None:
    server.plan = [web.json_response(JOB | {"status": "running"}), web.json_response(JOB)]
    job = await client.wait("j1")
    assert job.has_ended
    assert len(server.asked) == 2


async def test_wait_ends_with_its_time(server: Answering, client: Client) -> None:
    server.plan = [web.json_response(JOB | {"status": "running"})]
    with pytest.raises(WaitTimeoutError, match="is running after 0 s"):
        await client.wait("j1", timeout=0)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "invalid_request", InvalidRequestError),
        (401, "unauthorized", UnauthorizedError),
        (403, "forbidden", ForbiddenError),
        (404, "not_found", NotFoundError),
        (409, "already_final", ConflictError),
        (413, "too_large", InvalidRequestError),
        (422, "unknown_queue", InvalidRequestError),
        (429, "queue_full", QueueFullError),
        (429, "rate_limited", RateLimitedError),
        (500, "internal", UnexpectedAnswerError),
        (503, "outcome_unknown", OutcomeUnknownError),
        (503, "ledger_unavailable", UnavailableError),
    ],
)
async def test_refusals_are_told_apart_by_remedy(
    server: Answering, status: int, code: str, error: type[RefusedError]
) -> None:
    server.plan = [
        problem(status, code, correlationId="c9", errors=[{"path": "priority", "message": "too high"}])
    ]
    async with Client(server.url, "t", tries=1) as client:
        with pytest.raises(error) as caught:
            await client.cancel("j1")
    assert type(caught.value) is error
    assert caught.value.code == code
    assert caught.value.correlation_id == "c9"
    assert str(caught.value) == "because; priority: too high"
    if isinstance(caught.value, QueueFullError):
        assert caught.value.retry_after == 7


async def test_answers_that_are_no_api_are_told(server: Answering, client: Client) -> None:
    server.plan = [web.Response(text="<html>hello</html>")]
    with pytest.raises(UnexpectedAnswerError, match="not an answer of the API"):
        await client.get("j1")


async def test_reads_are_tried_again_while_the_service_is_away(server: Answering, client: Client) -> None:
    server.plan = [problem(503, "ledger_unavailable"), problem(503, "overloaded"), web.json_response(JOB)]
    assert (await client.get("j1")).has_ended
    assert len(server.asked) == 3


async def test_submission_is_repeated_under_one_key(server: Answering, client: Client) -> None:
    stored = web.json_response({"jobId": "j1", "status": "pending"}, status=201)
    server.plan = [problem(503, "outcome_unknown"), problem(409, "in_flight"), stored]
    await client.submit("chat", idempotency_key="k1")
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in server.asked}
    assert len(server.asked) == 3
    assert keys == {"k1"}


async def test_submission_without_a_key_is_not_repeated_in_doubt(server: Answering, client: Client) -> None:
    server.plan = [problem(503, "ledger_unavailable"), problem(503, "outcome_unknown")]
    with pytest.raises(OutcomeUnknownError):
        await client.submit("chat")
    assert len(server.asked) == 2


async def test_changes_are_repeated_only_if_nothing_happened(server: Answering, client: Client) -> None:
    server.plan = [problem(503, "ledger_unavailable"), problem(503, "outcome_unknown")]
    with pytest.raises(OutcomeUnknownError):
        await client.retry("j1")
    assert len(server.asked) == 2


async def test_broken_connection_is_no_reason_to_repeat_a_change(server: Answering, client: Client) -> None:
    def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    server.plan = [hang_up]
    with pytest.raises(UnreachableError) as caught:
        await client.cancel("j1")
    assert caught.value.may_have_arrived
    assert len(server.asked) == 1


async def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        async with Client(url, "t", tries=2) as client:
            with pytest.raises(UnreachableError, match="cannot be reached") as caught:
                await client.cancel("j1")
    assert not caught.value.may_have_arrived


async def test_token_may_be_asked_for_each_time(server: Answering) -> None:
    server.plan = [web.json_response(JOB)]
    tokens = iter(["first", "second"])
    async with Client(server.url, lambda: next(tokens)) as client:
        await client.get("j1")
        await client.get("j1")
    assert [headers["Authorization"] for _, _, headers, _ in server.asked] == [
        "Bearer first",
        "Bearer second",
    ]


async def test_closed_client_says_how_to_open_it() -> None:
    with pytest.raises(ClientError, match="async with"):
        await Client("http://127.0.0.1:1").get("j1")
