"""Liveness, readiness and metrics: for machines, without a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Literal

from aiohttp import web

from ferryman.api.exchange import Answer
from ferryman.api.keys import STOPPING
from ferryman.api.queue_views import DependencyView, LivenessView, ReadinessView
from ferryman.api.routing import encode
from ferryman.api.services import Services
from ferryman.api.views import timed
from ferryman.ports import DispatcherUnavailableError, LedgerError


class Health:
    """Answers about the process and what it depends on."""

    def __init__(self, services: Services) -> None:
        self._given = services.given

    async def live(self, _: web.Request) -> web.Response:
        return encode(Answer(200, LivenessView("ok", self._given.build.version)))

    async def ready(self, request: web.Request) -> web.Response:
        ledger, dispatcher = await asyncio.gather(
            self._ask(self._given.ledger.ping()), self._ask(self._given.dispatcher.ping())
        )
        status: Literal["ready", "degraded", "unavailable"] = "ready"
        if ledger.state != "up" or request.app[STOPPING].is_set():
            status = "unavailable"
        elif dispatcher.state != "up":
            status = "degraded"
        view = ReadinessView(status, self._given.build.version, {"ledger": ledger, "dispatcher": dispatcher})
        return encode(Answer(503 if status == "unavailable" else 200, view))

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self._given.metrics.exposition(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )

    async def _ask(self, ping: Awaitable[Mapping[str, Any]]) -> DependencyView:
        """How a dependency stands. Of errors only that there was one: texts may name addresses."""
        try:
            async with asyncio.timeout(self._given.limits.readiness_seconds):
                details = await ping
        except TimeoutError:
            return DependencyView("down", {"reason": "no answer in time"})
        except (LedgerError, DispatcherUnavailableError):
            return DependencyView("down", {"reason": "cannot be reached"})
        is_right = details.get("schemaReady", True) is not False
        return DependencyView("up" if is_right else "wrong", timed(details))
