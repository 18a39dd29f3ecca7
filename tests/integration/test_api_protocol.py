"""What goes over the wire beside the answers: headers, errors of HTTP itself, slow and broken clients."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator

import pytest

from ferryman.api.limits import Limits
from tests.support.api import Api, on_fresh_stores, token
from tests.support.servers import Database

QUICK = Limits(header_seconds=0.3, body_seconds=0.3)


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url, limits=QUICK) as api:
        yield api


async def raw(api: Api, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the server answers to these bytes before it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def post(body: bytes, *headers: str) -> bytes:
    lines = [
        "POST /api/jobs HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token()}",
        "Content-Type: application/json",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


async def test_every_answer_carries_its_headers(api: Api) -> None:
    for path in ("/healthz", "/api/jobs", "/api/jobs/x", "/nowhere", "/docs", "/metrics"):
        headers = (await api.call("GET", path)).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "ferryman"
        assert re.fullmatch(r"[0-9a-f]{32}", headers["X-Correlation-Id"])


@pytest.mark.parametrize("given", ["a", "A-1._:z", "x" * 128])
async def test_a_correlation_id_is_taken(api: Api, given: str) -> None:
    assert (await api.call("GET", "/healthz", headers={"X-Correlation-Id": given})).headers[
        "X-Correlation-Id"
    ] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü", "a,b", "<script>"])
async def test_a_correlation_id_that_cannot_be_taken_is_replaced(api: Api, given: str) -> None:
    reply = await api.call("GET", "/healthz", headers={"X-Correlation-Id": given})
    assert re.fullmatch(r"[0-9a-f]{32}", reply.headers["X-Correlation-Id"])


@pytest.mark.parametrize(
    ("traceparent", "trace_id"),
    [
        ("00-" + "ab" * 16 + "-" + "cd" * 8 + "-00", "ab" * 16),
        ("00-" + "00" * 16 + "-" + "cd" * 8 + "-01", None),
        ("00-" + "ab" * 16 + "-" + "00" * 8 + "-01", None),
        ("ff-" + "ab" * 16 + "-" + "cd" * 8 + "-01", None),
        ("00-" + "AB" * 16 + "-" + "cd" * 8 + "-01", None),
        ("nonsense", None),
    ],
)
async def test_a_trace_is_taken_when_it_is_one(api: Api, traceparent: str, trace_id: str | None) -> None:
    reply = await api.call("POST", "/api/jobs", {"type": "chat"}, headers={"traceparent": traceparent})
    assert reply.json["traceId"] == trace_id
    assert (await api.call("GET", reply.headers["Location"])).json["traceId"] == trace_id


async def test_wrong_paths_and_methods(api: Api) -> None:
    nowhere = await api.call("GET", "/api/nothing")
    assert (nowhere.status, nowhere.code) == (404, "not_found")
    for path, allowed in [
        ("/api/jobs", "GET, POST"),
        ("/api/queues/default", "DELETE, GET, PUT"),
        ("/api/jobs/stats", "GET"),
        ("/api/jobs/bulk", "POST"),
        ("/api/jobs/retention", "POST"),
        ("/healthz", "GET"),
    ]:
        reply = await api.call("PATCH", path)
        assert (reply.status, reply.code, reply.headers["Allow"]) == (405, "method_not_allowed", allowed)


async def test_a_head_that_does_not_come_is_not_waited_for(api: Api) -> None:
    started = time.monotonic()
    assert await raw(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
    assert await raw(api) == b""
    assert time.monotonic() - started < 3


async def test_a_body_that_does_not_come_is_not_waited_for(api: Api) -> None:
    answer = await raw(api, post(b'{"type":', "Content-Length: 100"))
    assert b"408" in answer.split(b"\r\n")[0]
    assert b"request_timeout" in answer


async def test_a_body_in_many_pieces_is_one_body(api: Api) -> None:
    pieces = [b"1\r\n" + bytes([byte]) + b"\r\n" for byte in b'{"type":"chat"}']
    answer = await raw(api, post(b"", "Transfer-Encoding: chunked"), *pieces, b"0\r\n\r\n")
    assert b"201" in answer.split(b"\r\n")[0]


async def test_bytes_that_are_no_http(api: Api) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"POST /api/jobs HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ):
        answer = await raw(api, nonsense)
        assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
        assert b"Traceback" not in answer
    long_line = b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b" 400 " in (await raw(api, long_line)).split(b"\r\n")[0]
    assert (await api.call("GET", "/healthz")).status == 200


UNREADABLE = {
    "a long header": b"Authorization: Bearer canary-4711" + b"x" * 9_000,
    "a long request line": b"",
    "a NUL": b"X-Canary: canary-4711\x00",
    "a CR": b"X-Canary: canary-4711\rSet-Cookie: a=b",
    "a name that is none": b"canary-4711 : a",
    "no colon": b"canary-4711",
    "too many headers": b"\r\n".join(b"X-%d: canary-4711" % number for number in range(200)),
    "two lengths": b"Content-Length: 1\r\nContent-Length: 4711\r\nX: canary-4711",
    "length and chunks": b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\nX: canary-4711",
}


async def test_what_cannot_be_read_is_refused_and_not_repeated(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for what, line in UNREADABLE.items():
        path = b"/canary-4711" + (b"" if line else b"x" * 9_000)
        answer = await raw(api, b"POST " + path + b" HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 400 " in head.split(b"\r\n")[0], what
        assert b"Content-Type: application/problem+json" in head
        assert b"Server: ferryman" in head
        assert b"Cache-Control: no-store" in head
        assert json.loads(body)["code"] == "malformed_request"
        assert b"canary" not in answer
    assert "malformed_request" in "".join(str(vars(record)) for record in caplog.records)
    assert "canary" not in "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("chunk", [b"ZZ\r\n", b"-1\r\n", b"2\r\n{}!!", b"1" * 40 + b"\r\n"])
async def test_a_broken_chunk_ends_the_request(api: Api, chunk: bytes) -> None:
    """What came before it waits for a body that can no longer come, as long as any body may take."""
    answer = await raw(api, post(b"", "Transfer-Encoding: chunked"), chunk, pause_s=0.02)
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert b"request_timeout" in answer


async def test_headers_with_strange_bytes(api: Api) -> None:
    body = b'{"type":"chat"}'
    length = f"Content-Length: {len(body)}"
    for name in ("Idempotency-Key", "X-Override-Reason", "X-Tenant-Id"):
        answer = await raw(api, post(body, length, f"{name}: a\udcffb"))
        assert answer.split(b" ")[1] in (b"400", b"403"), name
    taken = await raw(api, post(body, length, "X-Correlation-Id: a\udcffb", "traceparent: \udcff"))
    assert taken.split(b" ")[1] == b"201"


async def test_metrics_count_requests_by_route(api: Api) -> None:
    await api.submitted()
    text = (await api.call("GET", "/metrics")).text
    assert 'ferryman_http_requests_total{method="POST",path="/api/jobs",status="201"} 1' in text
    assert 'ferryman_jobs_submitted_total{queue="default"} 1' in text
    assert "acme" not in text


async def test_the_reference_is_served_with_its_policy(api: Api) -> None:
    docs = await api.call("GET", "/docs")
    assert docs.headers["Content-Type"] == "text/html; charset=utf-8"
    assert docs.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    description = json.loads((await api.call("GET", "/openapi.json")).text)
    assert description["info"]["version"] == "9.9.9"
