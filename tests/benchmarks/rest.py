"""Ferryman's REST interface as the benchmark uses it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.benchmarks.payload import compact, document
from tests.benchmarks.sizes import BULK, QUEUE, QUEUE_SIZE
from tests.support.stack import Stack, call
from tests.support.waiting import eventually

FILL_CONNECTIONS = 2
WARM_SECONDS = 20.0


class Rest:
    """One API that is ready."""

    def __init__(
        self,
        stack: Stack,
        port: int,
        session: aiohttp.ClientSession,
        run_client: Callable[..., Awaitable[dict[str, float]]],
    ) -> None:
        self.port = port
        self._url = f"http://127.0.0.1:{port}"
        self._session = session
        self._run_client = run_client
        self._stack = stack

    def token(self, tenant: str = "acme", *roles: str) -> str:
        return self._stack.token(*roles, tenant=tenant)

    async def put_queue(self) -> None:
        """Make the queue of the benchmark, which never fills; everything else by default."""
        settings = {"maxSize": QUEUE_SIZE, "maxBacklog": QUEUE_SIZE}
        status, answer = await call(
            self._session,
            "PUT",
            f"{self._url}/api/queues/{QUEUE}",
            self.token("acme", "platform"),
            json=settings,
        )
        assert status == 201, answer

        async def source() -> object:
            _, figures = await call(
                self._session, "GET", f"{self._url}/api/jobs/queue/status?queue={QUEUE}", self.token()
            )
            return figures["source"]

        # Until Redis knows the new queue the ledger stands in for it, which is not what is measured.
        await eventually(source, lambda name: name == "redis", within_s=WARM_SECONDS)

    async def load(self, connections: int, *, bulk: int = 1, **plan: Any) -> dict[str, float]:
        """Let the cheap client submit no-op jobs, `bulk` of them a request; its figures."""
        job = body()
        return await self._run_client(
            port=self.port,
            path="/api/jobs" if bulk == 1 else "/api/jobs/bulk",
            token=self.token(),
            body=compact(job if bulk == 1 else {"jobs": [job] * bulk}).decode(),
            connections=connections,
            jobs=bulk,
            **plan,
        )

    async def fill(self, jobs: int) -> None:
        """Submit so many no-op jobs, in bulk."""
        bulk = min(BULK, jobs)
        await self.load(FILL_CONNECTIONS, bulk=bulk, requests=jobs // bulk)

    async def submit(self, job_type: str, key: str = "", *, tenant: str = "acme") -> str:
        """Submit one job; its id."""
        status, answer = await call(
            self._session, "POST", f"{self._url}/api/jobs", self.token(tenant), json=body(job_type, key)
        )
        assert status == 201, answer
        return str(answer["jobId"])

    async def page(self) -> None:
        """Read the newest page of jobs."""
        status, answer = await call(self._session, "GET", f"{self._url}/api/jobs?limit=50", self.token())
        assert status == 200, answer


def body(job_type: str = "noop", key: str = "") -> dict[str, Any]:
    """A submission."""
    return {"type": job_type, "queue": QUEUE, "input": document(key)}
