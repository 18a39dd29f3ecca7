"""Deliveries: the handler of the queue `system.webhooks`, which brings events to tenants' endpoints.

Retries, backoff, leases and dead letters are the pipeline's own; what is here is one attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import msgspec

from ferryman.core.failures import PermanentError, TransientError
from ferryman.core.webhooks import (
    DELIVERY_TYPE,
    MAX_BODY_BYTES,
    WEBHOOK_QUEUE,
    WebhookTarget,
    delivery_tenant,
)
from ferryman.ports import WebhookStore
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.webhooks import EVENT_ID_HEADER, SIGNATURE_HEADER, sign
from ferryman.worker.context import JobContext
from ferryman.worker.courier import Courier, UndeliveredError
from ferryman.worker.registry import Registry

USER_AGENT: Final = "Ferryman-Webhooks/1"

log = logging.getLogger(__name__)


def delivery_registry(
    webhooks: WebhookStore, courier: Courier, now: Callable[[], datetime], metrics: Metrics
) -> Registry:
    """The one handler that the system's queue of webhooks needs."""
    registry = Registry()
    deliverer = Deliverer(webhooks, courier, now, metrics)

    @registry.handler(DELIVERY_TYPE)
    async def deliver(ctx: JobContext, webhookId: UUID, event: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        return await deliverer.deliver(ctx, webhookId, event)

    return registry


class Deliverer:
    """Signs an event, posts it and judges the answer."""

    def __init__(
        self, webhooks: WebhookStore, courier: Courier, now: Callable[[], datetime], metrics: Metrics
    ) -> None:
        self._webhooks = webhooks
        self._courier = courier
        self._now = now
        self._metrics = metrics

    async def deliver(self, ctx: JobContext, webhook_id: UUID, event: dict[str, Any]) -> dict[str, Any]:
        """One attempt: done with any 2xx, given up with 410, else tried again. Nothing is sent to an endpoint
        that was removed. Raises PermanentError, TransientError.
        """
        target = await self._webhooks.target(webhook_id)
        if target is None:
            return {"skipped": "the endpoint was removed"}
        if ctx.queue != WEBHOOK_QUEUE or ctx.tenant_id != delivery_tenant(target.tenant_id):
            raise PermanentError("deliveries are made by Ferryman itself, in its own queue")
        if not target.enabled:
            raise PermanentError("the endpoint is disabled")
        try:
            code = await self._send(target, event)
        except UndeliveredError as error:
            await self._failed(webhook_id, is_gone=False)
            raise TransientError(str(error)) from None
        return await self._judge(webhook_id, code)

    async def _send(self, target: WebhookTarget, event: dict[str, Any]) -> int:
        body = msgspec.json.encode(event)
        if len(body) > MAX_BODY_BYTES:
            raise PermanentError(f"the event has {len(body)} bytes, more than {MAX_BODY_BYTES}")
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            EVENT_ID_HEADER: str(event["eventId"]),
            SIGNATURE_HEADER: sign(target.secrets, int(self._now().timestamp()), body),
        }
        return await self._courier.post(target.url, body, headers)

    async def _judge(self, webhook_id: UUID, code: int) -> dict[str, Any]:
        details: dict[str, object] = {"responseCode": code}
        if 200 <= code < 300:
            await self._webhooks.delivered(webhook_id)
            self._metrics.count(names.DELIVERIES_TOTAL, outcome="delivered")
            return details
        if code == HTTPStatus.GONE:
            await self._failed(webhook_id, is_gone=True)
            raise PermanentError("the endpoint says that it is gone", details=details)
        await self._failed(webhook_id, is_gone=False)
        raise TransientError(f"the endpoint answered with {code}", details=details)

    async def _failed(self, webhook_id: UUID, *, is_gone: bool) -> None:
        self._metrics.count(names.DELIVERIES_TOTAL, outcome="failed")
        if await self._webhooks.failed(webhook_id, is_gone=is_gone):
            log.warning(names.WEBHOOK_DISABLED, extra={"webhook": str(webhook_id)})
