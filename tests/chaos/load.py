"""Clients that submit, cancel and retry, and write down what they were told: ok, refused or unknown."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from typing import Any

import aiohttp

from tests.support.stack import Api, Stack, call

TENANTS = ("acme", "globex", "initech")
UNKNOWN = (aiohttp.ClientError, TimeoutError)


class Load:
    """`acknowledged` are the ids that were answered with 201; `outcomes` counts answers by status."""

    def __init__(self, stack: Stack, apis: list[Api], dice: random.Random) -> None:
        self.stack = stack
        self.apis = apis
        self.dice = dice
        self.acknowledged: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._tokens = {tenant: stack.token("user", "admin", tenant=tenant) for tenant in TENANTS}

    async def run(self, stop: asyncio.Event, clients: int) -> None:
        """So many clients at work until `stop` is set."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(self._client(session, stop))

    async def _client(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        while not stop.is_set():
            tenant = self.dice.choice(TENANTS)
            draw = self.dice.random()
            if draw < 0.8:
                await self._submit(session, tenant, self._body())
            elif draw < 0.9:
                await self._submit(session, tenant, {"jobs": [self._body() for _ in range(10)]})
            else:
                await self._interfere(session)
            await asyncio.sleep(self.dice.uniform(0, 0.2))

    async def _submit(self, session: aiohttp.ClientSession, tenant: str, body: dict[str, Any]) -> None:
        path = "/api/jobs/bulk" if "jobs" in body else "/api/jobs"
        status, answer = await self._call(session, "POST", path, tenant, body)
        if status == 201:
            jobs = answer["jobs"] if "jobs" in body else [answer]
            self.acknowledged += [job["jobId"] for job in jobs]

    async def _interfere(self, session: aiohttp.ClientSession) -> None:
        if self.acknowledged:
            job_id = self.dice.choice(self.acknowledged[-500:])
            verb = self.dice.choice(("cancel", "retry"))
            await self._call(session, "POST", f"/api/jobs/{job_id}/{verb}", self.dice.choice(TENANTS))

    async def _call(
        self, session: aiohttp.ClientSession, method: str, path: str, tenant: str, body: Any = None
    ) -> tuple[int, Any]:
        url = self.dice.choice(self.apis).url + path
        began = time.monotonic()
        try:
            status, answer = await call(session, method, url, self._tokens[tenant], json=body)
        except UNKNOWN:
            self.outcomes["unknown"] += 1
            return 0, {}
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.outcomes[str(status)] += 1
        return status, answer

    def _body(self) -> dict[str, Any]:
        kind = self.dice.choices(
            ("quick", "slow", "flaky", "doomed", "sleepy", "thread", "killer"), (60, 12, 10, 3, 5, 1, 0.03)
        )[0]
        inputs: dict[str, dict[str, Any]] = {
            "slow": {"ms": self.dice.choice((50, 50, 300, 2_000))},
            "flaky": {"fails": self.dice.choice((1, 2, 9))},
            "sleepy": {"ms": 300},
            "thread": {"ms": 200},
        }
        body: dict[str, Any] = {"type": kind, "queue": "chaos", "input": inputs.get(kind, {})}
        if self.dice.random() < 0.1:
            body["delayMs"] = self.dice.randrange(3_000)
        if self.dice.random() < 0.05:
            body["ttlMs"] = 2_000
        if self.dice.random() < 0.05:
            body["uniqueKey"] = f"key-{self.dice.randrange(20)}"
        return body | {"priority": self.dice.choice((0, 0, 0, 5, 100))}
