"""The API on real stores in this process, and tokens to call it with."""

from __future__ import annotations

import io
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import ClientResponse, ClientSession

from ferryman.api.app import Dependencies, create_app
from ferryman.api.limits import BuildInfo, Limits
from ferryman.api.server import serving
from ferryman.auth.minting import mint
from ferryman.auth.tokens import TokenVerifier, hs256_key
from ferryman.core.job import Position
from ferryman.dispatch.dispatcher import open_dispatcher
from ferryman.ledger.postgres import open_ledger
from ferryman.ports import Dispatcher, Ledger
from ferryman.telemetry.metrics import Metrics

SECRET = "a secret of more than thirty-two bytes, for tests only"
LIMITS = Limits(header_seconds=2, body_seconds=2)


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def token(
    *roles: str, tenant: str | None = "acme", user: int | None = 1, ttl_s: int = 600, secret: str = SECRET
) -> str:
    """A token of this bearer; of role user when none is named."""
    return mint(
        secret,
        tenant_id=tenant,
        user_id=user,
        roles=roles or ("user",),
        now_s=int(time.time()),
        ttl_s=ttl_s,
    )


SERVICE = token("service", tenant=None, user=None)
PLATFORM = token("platform")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The code of a problem."""
        return str(self.json["code"])

    @property
    def paths(self) -> list[str]:
        """The fields that a problem names."""
        return [error["path"] for error in self.json.get("errors", [])]


@dataclass(frozen=True)
class Api:
    """A running API. Calls carry `bearer` unless they are told otherwise."""

    session: ClientSession
    port: int
    ledger: Ledger
    dispatcher: Dispatcher
    metrics: Metrics
    bearer: str = field(default_factory=token)

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        bearer: str | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One call. `data` are the bytes of a body that `body` cannot be."""
        sent = {"Authorization": f"Bearer {bearer or self.bearer}", **(headers or {})}
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, path, data=body_of(data), headers=sent) as answer:
            return await _read(answer)

    async def submit(self, *, bearer: str | None = None, **fields: object) -> Reply:
        """Submit one job, of type chat unless told otherwise."""
        return await self.call("POST", "/api/jobs", {"type": "chat", **fields}, bearer=bearer)

    async def submitted(self, *, bearer: str | None = None, **fields: object) -> str:
        """The id of a job that was stored."""
        reply = await self.submit(bearer=bearer, **fields)
        assert reply.status == 201, reply.text
        return str(reply.json["jobId"])


def body_of(data: bytes | None) -> bytes | io.BytesIO | None:
    """A large body as a file, as aiohttp wants it."""
    return io.BytesIO(data) if data is not None and len(data) > 2**20 else data


async def _read(answer: ClientResponse) -> Reply:
    return Reply(status=answer.status, headers=answer.headers, text=await answer.text())


@asynccontextmanager
async def running(
    ledger: Ledger,
    dispatcher: Dispatcher,
    *,
    limits: Limits = LIMITS,
    verifier: TokenVerifier | None = None,
    port: int = 0,
) -> AsyncIterator[Api]:
    """The API on these stores; it takes tokens of SECRET unless it is given another verifier."""
    metrics = Metrics()
    given = Dependencies(
        ledger=ledger,
        dispatcher=dispatcher,
        verifier=verifier or TokenVerifier(hs256_key(SECRET), SystemClock()),
        metrics=metrics,
        clock=SystemClock(),
        dice=random.random,
        limits=limits,
        build=BuildInfo(version="9.9.9"),
    )
    app = create_app(given)
    async with (
        serving(app, host="127.0.0.1", port=port, limits=limits, grace_seconds=5) as bound,
        ClientSession(f"http://127.0.0.1:{bound}") as session,
    ):
        yield Api(session, bound, ledger, dispatcher, metrics)


async def warm(ledger: Ledger, dispatcher: Dispatcher) -> None:
    """Let the dispatcher know every queue, as the maintainer would."""

    async def pages(queue: str) -> AsyncIterator[Sequence[Position]]:
        yield await ledger.upkeep.waiting(queue, after=None, limit=1_000)

    for record in await ledger.queues.all():
        await dispatcher.rebuild(record, pages(record.name))


@asynccontextmanager
async def on_fresh_stores(
    database_url: str, redis_url: str, *, limits: Limits = LIMITS
) -> AsyncIterator[Api]:
    """The API on a migrated database and a Redis, every queue known to both."""
    async with open_ledger(database_url) as ledger:
        dispatcher = open_dispatcher(redis_url)
        try:
            await warm(ledger, dispatcher)
            async with running(ledger, dispatcher, limits=limits) as api:
                yield api
        finally:
            await dispatcher.close()
