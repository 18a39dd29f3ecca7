"""A cheap HTTP client that keeps connections busy with one request made beforehand.

Run as a process of its own: a JSON document with the fields of `Plan` on standard input, one with the figures
on standard output. Any answer with another status than the expected one ends it with 1.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

from tests.benchmarks.latencies import summary

GIVE_UP_SECONDS = 590.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send. Measures for `seconds` after `warm_seconds`, or, when `requests` is given, until so many
    were answered. `jobs` is how many jobs one request stands for.
    """

    port: int
    path: str
    token: str
    body: str
    connections: int
    jobs: int = 1
    expect: int = 201
    method: str = "POST"
    warm_seconds: float = 0.3
    seconds: float = 2.0
    requests: int | None = None

    def request(self) -> bytes:
        """The bytes of one request."""
        body = self.body.encode()
        head = (
            f"{self.method} {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


class WrongAnswerError(Exception):
    """An answer that was not expected, or none at all."""


class Load:
    """Counts what the connections report, and says when it is enough."""

    def __init__(self, plan: Plan) -> None:
        self.request = plan.request()
        self.expected = str(plan.expect).encode()
        self.latencies: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._left = plan.requests
        self._measuring = plan.requests is not None
        self._started = self._ended = 0.0

    async def run(self) -> dict[str, float]:
        """The figures of the whole run. Raises WrongAnswerError."""
        loop = asyncio.get_running_loop()
        connections = [
            (await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._plan.port))[1]
            for _ in range(self._plan.connections)
        ]
        self._started = time.perf_counter()
        if self._left is None:
            loop.call_later(self._plan.warm_seconds, self._begin)
            loop.call_later(self._plan.warm_seconds + self._plan.seconds, self._end)
        for connection in connections:
            connection.send()
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self.done
        finally:
            for connection in connections:
                connection.close()
        answers = len(self.latencies)
        return summary(answers * self._plan.jobs, self._ended - self._started, self.latencies)

    def may_send(self) -> bool:
        """Whether another request is wanted; takes it off what is left."""
        if self._left is None:
            return not self.done.done()
        self._left -= 1
        return self._left >= 0

    def note(self, sent_at: float) -> None:
        """An answer of the expected status came."""
        if self._measuring:
            self.latencies.append(time.perf_counter() - sent_at)
            if self._plan.requests is not None and len(self.latencies) >= self._plan.requests:
                self._end()

    def fail(self, reason: str) -> None:
        """End the run as failed."""
        if not self.done.done():
            self.done.set_exception(WrongAnswerError(reason))

    def _begin(self) -> None:
        self._started, self._measuring = time.perf_counter(), True

    def _end(self) -> None:
        self._ended, self._measuring = time.perf_counter(), False
        if not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """One request at a time, the next as soon as the answer is there."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._missing = 0
        self._sent_at = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def send(self) -> None:
        """Send the request, if another one is wanted."""
        if self._load.may_send() and self._transport is not None:
            self._sent_at = time.perf_counter()
            self._transport.write(self._load.request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        elif not self._read_head(data):
            return
        if self._missing <= 0:
            self._missing = 0
            self._load.note(self._sent_at)
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._load.fail(f"the server closed a connection: {error}")

    def _read_head(self, data: bytes) -> bool:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head, self._buffer = self._buffer, b""
        if head[9:12] != self._load.expected:
            self._load.fail(head.decode(errors="replace")[:2000])
            return False
        name = head.find(b"Content-Length: ", 0, end)
        if name < 0:
            self._load.fail("an answer without Content-Length")
            return False
        length = int(head[name + 16 : head.index(b"\r\n", name)])
        self._missing = end + 4 + length - len(head)
        return True


async def _main(plan: Plan) -> dict[str, float]:
    return await Load(plan).run()


def document(plan: Plan) -> str:
    """The plan as the process takes it."""
    return json.dumps(asdict(plan))


if __name__ == "__main__":
    gc.disable()  # a short life in which nothing gathers
    try:
        print(json.dumps(uvloop.run(_main(Plan(**json.load(sys.stdin))))))
    except (WrongAnswerError, TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
