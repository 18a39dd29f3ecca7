"""Every field of a submission wrong in every way: the right status, code and field, and nothing stored."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, on_fresh_stores, token
from tests.support.servers import Database


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def stored(api: Api) -> int:
    """How many jobs there are."""
    return len((await api.call("GET", "/api/jobs?limit=200")).json["jobs"])


NO_TEXT: list[object] = [1, 1.5, True, [], {}]
NO_NUMBER: list[object] = ["1", "", True, [], {}, 1.5, 5.0]
NO_TIME: list[object] = [
    1,
    True,
    [],
    {},
    "",
    "now",
    "2027-01-01",
    "2027-01-01T00:00:00",
    "2027-13-01T00:00:00Z",
]


def outside(low: int, high: int) -> list[object]:
    return [*NO_NUMBER, low - 1, high + 1, -(2**63), 2**63 - 1]


# The path that must be named, then values that its field must not take.
FIELDS: dict[str, list[object]] = {
    "type": [*NO_TEXT, None, "", " ", "a b", "a/b", "ü", "x" * 51, "chat\n", "a\x7f"],
    "input": [1, 1.5, True, "text", []],
    "message": NO_TEXT,
    "queue": [*NO_TEXT, "", "Default", "-x", "a b", "x" * 64, "a\n", "../etc"],
    "priority": outside(0, 100),
    "maxRetries": outside(0, 100),
    "retryDelayMs": outside(0, 86_400_000),
    "visibilityTimeoutMs": outside(100, 43_200_000),
    "timeoutMs": outside(1, 86_400_000),
    "delayMs": outside(0, 31_536_000_000),
    "ttlMs": outside(1, 315_360_000_000),
    "runAt": [*NO_TIME, "2999-01-01T00:00:00Z"],
    "expiresAt": [*NO_TIME, "2999-01-01T00:00:00Z", "2020-01-01T00:00:00Z"],
    "tags": [1, True, "a", {}, ["t"] * 33],
    "tags[0]": [[""], [1], [None], [["a"]], [{}], ["x" * 65]],
    "metadata": [1, True, "a", [], {f"k{n}": 1 for n in range(33)}, {f"k{n}": "v" * 900 for n in range(10)}],
    "metadata.a": [{"a": None}, {"a": []}, {"a": {}}],
    "metadata.a b": [{"a b": 1}],
    "metadata.": [{"": 1}],
    "uniqueKey": [*NO_TEXT, "", "k" * 201],
    "bogus": [1, None],
}
CASES = [(path, value) for path, values in FIELDS.items() for value in values]


def body_of(path: str, value: object) -> dict[str, object]:
    field = path.split("[")[0].split(".")[0]
    return {"type": "chat", field: value}


async def test_each_field_wrong_in_each_way(api: Api) -> None:
    for path, value in CASES:
        reply = await api.call("POST", "/api/jobs", body_of(path, value))
        assert (reply.status, reply.code, reply.paths) == (400, "invalid_request", [path]), (path, value)
        assert reply.headers["Content-Type"] == "application/problem+json"
    assert await stored(api) == 0


async def test_each_field_wrong_in_bulk(api: Api) -> None:
    for path, values in FIELDS.items():
        jobs = [{"type": "chat"}, body_of(path, values[0])]
        reply = await api.call("POST", "/api/jobs/bulk", {"jobs": jobs})
        assert (reply.status, reply.paths) == (400, [f"jobs[1].{path}"]), path
    assert await stored(api) == 0


DEEP = b'{"a":' * 70 + b"1" + b"}" * 70
# The bytes of a body, and the field that must be named; "" when the whole body is at fault.
BODIES: list[tuple[bytes, str]] = [
    (b"", ""),
    (b" ", ""),
    (b"{", ""),
    (b"null", "(body)"),
    (b"[]", "(body)"),
    (b'"chat"', "(body)"),
    (b"{} {}", ""),
    (b"{'type':'chat'}", ""),
    (b'{"type":"chat",}', ""),
    (b'\xef\xbb\xbf{"type":"chat"}', ""),
    ('{"type":"chat"}'.encode("utf-16"), ""),
    (b'{"type":"chat","message":"\xff"}', ""),
    (b'{"type":"chat","message":"\xed\xa0\x80"}', ""),
    (b'{"type":"chat","message":"a\x00b"}', ""),
    (b'{"type":"chat","message":"\\u0000"}', "message"),
    (b'{"type":"chat","message":"\\ud800"}', "message"),
    (b'{"type":"chat","input":{"user":{"name":"x\\u0000"}}}', "input.user.name"),
    (b'{"type":"chat","input":{"a":["\\udfff"]}}', "input.a[0]"),
    (b'{"type":"chat","input":{"a":1,"a":2}}', "input.a"),
    (b'{"type":"chat","type":"chat"}', "type"),
    (b'{"type":"chat","input":{"n":1e309}}', "input.n"),
    (b'{"type":"chat","input":{"n":[1e100000]}}', "input.n[0]"),
    (b'{"type":"chat","input":{"n":1e-99999}}', "input.n"),
    (b'{"type":"chat","input":{"n":9223372036854775808}}', "input.n"),
    (b'{"type":"chat","input":{"n":NaN}}', ""),
    (b'{"type":"chat","input":' + DEEP + b"}", "input.a.a.a.a.a.a.a"),
    (b'{"type":"chat","input":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    (b'{"type":"chat","metadata":{"k":"\\u0000"}}', "metadata.k"),
    (b'{"type":"chat","tags":["\\ud800"]}', "tags[0]"),
    (b'{"type":"chat","uniqueKey":"\\u0000"}', "uniqueKey"),
    (b'{"type":"\\u0000"}', "type"),
]


async def test_each_body_that_is_none(api: Api) -> None:
    for data, path in BODIES:
        reply = await api.call("POST", "/api/jobs", data=data, headers={"Content-Type": "application/json"})
        code = "invalid_request" if path else "invalid_json"
        assert (reply.status, reply.code, reply.paths) == (400, code, [path] if path else []), data[:80]
    assert await stored(api) == 0


async def test_bodies_that_are_too_large_or_of_another_kind(api: Api) -> None:
    good = b'{"type":"chat"}'
    json_type = {"Content-Type": "application/json"}

    async def status(data: bytes, headers: dict[str, str]) -> tuple[int, str]:
        reply = await api.call("POST", "/api/jobs", data=data, headers=headers)
        return reply.status, reply.code

    assert await status(b" " * 1_048_577 + good, json_type) == (413, "body_too_large")
    assert await status(good, {"Content-Type": "text/plain"}) == (415, "unsupported_media_type")
    assert await status(good, {"Content-Type": "application/x-www-form-urlencoded"}) == (
        415,
        "unsupported_media_type",
    )
    assert await status(good, {"Content-Type": "application/json; charset=latin-1"}) == (
        415,
        "unsupported_media_type",
    )
    assert await status(good, json_type | {"Content-Encoding": "gzip"}) == (415, "unsupported_encoding")
    assert await status(good, json_type | {"Content-Encoding": "br"}) == (415, "unsupported_encoding")
    for media_type in ("application/json; charset=utf-8", 'Application/JSON; charset="UTF-8"'):
        reply = await api.call("POST", "/api/jobs", data=good, headers={"Content-Type": media_type})
        assert reply.status == 201
    assert await stored(api) == 2


async def test_what_is_odd_but_right(api: Api) -> None:
    bodies: list[dict[str, Any]] = [
        {"type": "a" * 50, "input": {}},
        {"type": "A.b_c:d-9", "priority": 100, "maxRetries": 100, "retryDelayMs": 86_400_000},
        {"type": "x", "visibilityTimeoutMs": 43_200_000, "timeoutMs": 86_400_000, "delayMs": 31_536_000_000},
        {"type": "x", "ttlMs": 315_360_000_000, "tags": ["t" * 64] * 32, "uniqueKey": "ü" * 200},
        {"type": "x", "metadata": {f"k{n}": n for n in range(32)}, "message": ""},
        {
            "type": "x",
            "input": {"": None, "__proto__": 1, "%": "'; DROP TABLE jobs; --", "u": "\u2028\u202e\x7f"},
        },
        {"type": "x", "input": {"n": [-(2**63), 2**63 - 1, 1e22, -0.1, 5e-324]}},
        {"type": "x", "tags": ["a'b", 'c"d', "e,f", "{g}", "\\", " ", "NULL", "null"]},
        {"type": "x", "runAt": "1970-01-01T00:00:00Z"},
    ]
    for body in bodies:
        reply = await api.call("POST", "/api/jobs", body)
        assert reply.status == 201, (body, reply.text)
        job = (await api.call("GET", reply.headers["Location"])).json
        for name in ("input", "tags", "metadata", "uniqueKey"):
            if name in body:
                assert job[name] == body[name]


async def test_what_postgresql_alone_refuses_fails_alone(api: Api) -> None:
    """More digits than a numeric holds: nobody but the one who sent it pays."""
    digits = b'{"type":"chat","input":{"n":0.' + b"1" * 20_000 + b"}}"
    json_type = {"Content-Type": "application/json"}
    refused, *others = await asyncio.gather(
        api.call("POST", "/api/jobs", data=digits, headers=json_type), *(api.submit() for _ in range(20))
    )
    assert (refused.status, refused.code) == (400, "invalid_request")
    assert {reply.status for reply in others} == {201}


QUERIES = [
    ("/api/jobs?limit=0", "limit"),
    ("/api/jobs?limit=201", "limit"),
    ("/api/jobs?status=gone", "status"),
    ("/api/jobs?unknown=1", "unknown"),
    ("/api/jobs?createdAfter=yesterday", "createdAfter"),
    ("/api/jobs?createdAfter=1700000000", "createdAfter"),
    ("/api/jobs?createdBefore=0.5", "createdBefore"),
    ("/api/jobs?metadata.a%20b=1", "metadata.a b"),
    ("/api/jobs?tag=%00", "tag"),
    ("/api/jobs?metadata.a=%00", "metadata.a"),
    ("/api/jobs?userId=me", "userId"),
    ("/api/jobs/stats?from=x", "from"),
    ("/api/jobs/queue/status?wait=-1", "wait"),
    ("/api/jobs/queue/status?queue=NO", "queue"),
    ("/api/dead-letters?status=x", "status"),
    ("/api/dead-letters?olderThanMs=-1", "olderThanMs"),
    ("/api/queues?limit=1", "limit"),
]


async def test_each_parameter_wrong(api: Api) -> None:
    for path, name in QUERIES:
        reply = await api.call("GET", path)
        assert (reply.status, reply.code, reply.paths) == (400, "invalid_request", [name]), path


async def test_cursors_that_are_broken_or_of_another_list(api: Api) -> None:
    await api.submitted()
    await api.submitted()
    cursor = (await api.call("GET", "/api/jobs?limit=1")).json["nextCursor"]
    for path in (
        "/api/jobs?cursor=x",
        "/api/jobs?cursor=",
        f"/api/jobs?cursor={'B' if cursor[0] == 'A' else 'A'}{cursor[1:]}",
        f"/api/dead-letters?cursor={cursor}",
    ):
        reply = await api.call("GET", path)
        assert (reply.status, reply.code) == (400, "invalid_cursor"), path
    foreign = await api.call("GET", f"/api/jobs?cursor={cursor}", bearer=token(tenant="globex"))
    assert (foreign.status, foreign.json["jobs"]) == (200, [])


IDS = [
    "x",
    "1",
    "%00",
    "..",
    "00000000-0000-0000-0000-00000000000g",
    "{00000000-0000-0000-0000-000000000000}",
]


async def test_ids_that_are_none_are_not_found(api: Api) -> None:
    for text in [*IDS, "00000000-0000-7000-8000-000000000000"]:
        for method, path in [
            ("GET", f"/api/jobs/{text}"),
            ("GET", f"/api/jobs/{text}/history"),
            ("GET", f"/api/jobs/{text}/wait"),
            ("POST", f"/api/jobs/{text}/cancel"),
            ("POST", f"/api/jobs/{text}/retry"),
            ("GET", f"/api/dead-letters/{text}"),
            ("POST", f"/api/dead-letters/{text}/requeue"),
        ]:
            reply = await api.call(method, path)
            assert (reply.status, reply.code) == (404, "not_found"), path


async def test_calls_without_a_body_take_none(api: Api) -> None:
    job_id = await api.submitted()
    reply = await api.call("POST", f"/api/jobs/{job_id}/cancel", {"force": True})
    assert (reply.status, reply.paths) == (400, ["force"])
    assert (await api.call("POST", f"/api/jobs/{job_id}/cancel", {})).status == 202


async def test_a_body_in_full_depth_says_so_in_problem_form(api: Api) -> None:
    reply = await api.call("POST", "/api/jobs", {"type": 1})
    problem = json.loads(reply.text)
    assert set(problem) == {"type", "title", "status", "detail", "code", "correlationId", "errors"}
    assert problem["type"] == "/docs#problem-invalid_request"
    assert problem["correlationId"] == reply.headers["X-Correlation-Id"]
