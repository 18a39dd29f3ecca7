"""What attackers send: bombs, injections, twins in crowds, and connections that are slow on purpose."""

import asyncio
import contextlib
import resource
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession, TCPConnector

from ferryman.api.limits import Limits
from ferryman.api.routes import ROUTES
from tests.support.api import Api, on_fresh_stores, token
from tests.support.servers import Database

QUICK = Limits(header_seconds=0.3, body_seconds=0.3, write_seconds=0.5, keepalive_seconds=0.5)
CROWD = 1_000
BOMB_CPU_SECONDS = 0.1
BOMB_BYTES = 32 * 2**20  # of caller and server together, at the worst moment
EVERYTHING = token("user", "admin", "platform")
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url, limits=QUICK) as api:
        yield api


# ------------------------------------------------------------------------------------------ crowds of twins


async def crowd(api: Api, body: dict[str, Any], **headers: str) -> list[tuple[int, dict[str, Any]]]:
    """The answers to so many calls that are all the same and under way together."""
    sent = {"Authorization": f"Bearer {api.bearer}", **headers}

    async def one(session: ClientSession) -> tuple[int, dict[str, Any]]:
        async with session.post(f"http://127.0.0.1:{api.port}/api/jobs", json=body, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None)

    async with ClientSession(connector=TCPConnector(limit=300)) as session:
        return await asyncio.gather(*(one(session) for _ in range(CROWD)))


@pytest.fixture
async def patient(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url, limits=Limits()) as api:
        yield api


async def test_a_thousand_twins_of_a_unique_key_are_one_job(patient: Api) -> None:
    answers = await crowd(patient, {"type": "chat", "uniqueKey": "one"})
    assert Counter(status for status, _ in answers) == {201: 1, 200: CROWD - 1}
    assert len({view["jobId"] for _, view in answers}) == 1
    assert len((await patient.call("GET", "/api/jobs")).json["jobs"]) == 1


async def test_a_thousand_twins_of_an_idempotency_key_are_one_job(patient: Api) -> None:
    answers = await crowd(patient, {"type": "chat"}, **{"Idempotency-Key": "one"})
    assert {status for status, _ in answers} <= {201, 409}
    accepted = {view["jobId"] for status, view in answers if status == 201}
    assert {view["code"] for status, view in answers if status == 409} <= {"idempotency_in_flight"}
    assert len(accepted) == 1
    assert [job["jobId"] for job in (await patient.call("GET", "/api/jobs")).json["jobs"]] == [*accepted]


# -------------------------------------------------------------------------------------------------- bombs

MEGABYTE = 2**20 - 200


def in_input(value: str) -> bytes:
    return b'{"type":"chat","input":{"a":' + value.encode() + b"}}"


def repeated(piece: str) -> str:
    return piece * (MEGABYTE // len(piece.encode()))


def bombs() -> list[bytes]:
    """Two hundred bodies within the limit of size, made to cost much more than they look."""
    deep = [in_input('{"a":[' * depth + "1" + "]}" * depth) for depth in range(66, 241)]
    return [
        *deep,
        b"[" * MEGABYTE,
        b'{"a":' * (MEGABYTE // 5),
        b"[" * (MEGABYTE // 2) + b"]" * (MEGABYTE // 2),
        b'"' + b"\\u0000" * (MEGABYTE // 6) + b'"',
        b"\\" * MEGABYTE,
        b"-" * MEGABYTE,
        b"1" * MEGABYTE,
        b"\xff" * MEGABYTE,
        b" " * MEGABYTE,
        in_input("[" + repeated("1e100000,") + "1]"),
        in_input("[" + repeated("1e-100000,") + "1]"),
        in_input("9" * MEGABYTE),
        in_input("0." + "9" * MEGABYTE),
        in_input("[" + repeated('"\\ud800",') + "1]"),
        in_input("[" + repeated('"\\u0000",') + "1]"),
        in_input("{" + ",".join(f'"k{n % 50_000}":1' for n in range(80_000)) + "}"),
        in_input("{" + repeated('"a":1,') + '"a":1}'),
        in_input("NaN"),
        b'{"type":"chat",' + b",".join(b'"f%d":1' % n for n in range(80_000)) + b"}",
        b'{"type":"chat","tags":[' + b'"t",' * 200_000 + b'"t"]}',
        b'{"type":"chat","metadata":{' + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}}",
        b'{"type":"chat","metadata":{"' + b"k" * 70_000 + b'":1}}',
        b'{"type":"' + b"x" * MEGABYTE + b'"}',
        b'{"type":"chat","uniqueKey":"' + b"x" * MEGABYTE + b'"}',
        b'{"type":"chat","queue":"' + b"a" * MEGABYTE + b'"}',
    ]


async def test_two_hundred_bombs_cost_little(api: Api) -> None:
    bodies = bombs()
    assert len(bodies) == 200
    await api.call("POST", "/api/jobs", data=bodies[0], headers=JSON)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    for number, body in enumerate(bodies):
        costs = []
        for _ in range(3):
            started = time.process_time()
            reply = await api.call("POST", "/api/jobs", data=body, headers=JSON)
            costs.append(time.process_time() - started)
            assert reply.status == 400, (number, body[:60], reply.status)
            if costs[-1] < BOMB_CPU_SECONDS:
                break
        assert min(costs) < BOMB_CPU_SECONDS, (number, body[:60], costs)
        assert len(reply.text) < 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 - before <= BOMB_BYTES
    assert (await api.call("GET", "/api/jobs")).json["jobs"] == []


# --------------------------------------------------------------------------------------------- injections

INJECTIONS = (
    "' OR '1'='1",
    "'; DROP TABLE ferryman.jobs; --",
    "1; SELECT pg_sleep(5)",
    "1/0",
    "%",
    "_",
    "*",
    "\\",
    "$1",
    "{}",
    "%s%n",
    "a' UNION SELECT * FROM ferryman.jobs --",
    "(a+)+$",
    "../../etc/passwd",
    "${jndi:ldap://x}",
    "\r\nSet-Cookie: a=b",
    "\x1b[2J",
    "'||(SELECT 1/0)||'",
    "NaN",
    "-1",
    "1e400",
    "9" * 400,
)


async def test_injections_into_every_parameter_find_nothing(api: Api) -> None:
    await api.submitted(bearer=EVERYTHING, tags=["t"], metadata={"k": "v"}, input={"secret": "canary-4711"})
    for route in ROUTES:
        if route.method != "GET" or "{" in route.path or route.open_stream is not None:
            continue
        for name in [*route.query.types, "metadata.k", "metadata.%s"]:
            for text in INJECTIONS:
                path = f"{route.path}?{quote(name)}={quote(text)}"
                reply = await api.call("GET", path, bearer=EVERYTHING)
                assert reply.status in (200, 400, 404), (path, reply.text)
                assert "Set-Cookie" not in reply.headers
                assert "canary" not in reply.text, path
    assert len((await api.call("GET", "/api/jobs", bearer=EVERYTHING)).json["jobs"]) == 1


async def test_injections_into_every_path_find_nothing(api: Api) -> None:
    for route in ROUTES:
        if "{" not in route.path or route.method == "PUT":
            continue
        for text in INJECTIONS:
            values = dict.fromkeys(
                ("jobId", "deadLetterId", "webhookId", "workerId", "name"), quote(text, "")
            )
            reply = await api.call(route.method, route.path.format(**values), bearer=EVERYTHING)
            assert reply.status in (400, 403, 404, 405), (route.path, text, reply.text)
            assert "Set-Cookie" not in reply.headers


# ------------------------------------------------------------------------------------------- slow clients


def test_the_limits_on_slow_clients() -> None:
    limits = Limits()
    assert (limits.header_seconds, limits.body_seconds, limits.write_seconds) == (10, 30, 30)
    assert limits.keepalive_seconds == 75


async def drip(api: Api, head: bytes, drop: bytes) -> tuple[bytes, float]:
    """What comes back, and after how long, when the rest of a request comes byte by byte and never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    started = time.monotonic()
    writer.write(head)

    async def feed() -> None:
        while True:
            writer.write(drop)
            await asyncio.sleep(0.02)

    feeding = asyncio.create_task(feed())
    answer = b""
    try:
        # A byte that is still on its way when the server closes makes the kernel reset the connection.
        with contextlib.suppress(ConnectionResetError):
            while piece := await asyncio.wait_for(reader.read(65_536), 10):
                answer += piece
        return answer, time.monotonic() - started
    finally:
        feeding.cancel()
        writer.close()


async def test_bytes_that_trickle_buy_no_time(api: Api) -> None:
    answer, seconds = await drip(api, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a")
    assert (answer, seconds < 3) == (b"", True)
    first = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    answer, seconds = await drip(api, first + b"GET /healthz HTTP/1.1\r\nX-Slow: ", b"a")
    assert (answer.count(b"HTTP/1.1 200"), seconds < 3) == (1, True)
    head = (
        f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n"
        "Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
    )
    answer, seconds = await drip(api, head.encode(), b" ")
    assert b" 408 " in answer.split(b"\r\n")[0]
    assert seconds < 3


async def test_five_hundred_slow_connections_keep_nobody_waiting(patient: Api) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", patient.port) for _ in range(500)]
    try:
        for _, writer in slow:
            writer.write(b"GET / HTTP/1.1\r\nHost:")
        times = []
        for number in range(20):
            for _, writer in slow[number::20]:
                writer.write(b"x")
            started = time.monotonic()
            assert (await patient.call("GET", "/healthz")).status == 200
            times.append(time.monotonic() - started)
        assert statistics.median(times) < 0.1
    finally:
        for _, writer in slow:
            writer.close()


async def test_who_reads_no_answer_is_dropped(api: Api) -> None:
    """Long answers to somebody who takes nothing of them fill the way, and then the connection ends."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", api.port))
    ask = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

    async def ask_on() -> None:
        while True:
            await loop.sock_sendall(client, ask * 50)

    with client, pytest.raises(ConnectionError):
        await asyncio.wait_for(ask_on(), 20)


async def test_trailers_without_end_are_cut_off(api: Api) -> None:
    head = f"POST /api/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(head.encode() + b'f\r\n{"type":"chat"}\r\n0\r\n')

    async def go_on() -> None:
        while True:
            writer.write(b"X-Trailer: a\r\n" * 1_000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(go_on(), 20)
    writer.close()
    assert (await api.call("GET", "/api/jobs")).json["jobs"] == []
