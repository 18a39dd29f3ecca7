"""Webhooks: endpoints as their admins see them, and as the worker that delivers to them does."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from ferryman.core.job import Actor, ActorKind
from ferryman.core.status import JobStatus
from ferryman.core.webhooks import (
    FAILING_MS,
    MAX_FAILURES,
    MAX_WEBHOOKS,
    OVERLAP_MS,
    Delivery,
    Relayed,
    Webhook,
    WebhookSettings,
    WebhookTarget,
)
from ferryman.ledger.lookup import LAST_ID
from ferryman.ledger.pool import Pools
from ferryman.ledger.relay import relay
from ferryman.ledger.statements import statement
from ferryman.ledger.writes import who, write
from ferryman.ports import Page

_ACTOR_ID: Final = "webhooks"


class Webhooks:
    """`WebhookStore` on PostgreSQL."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def all(self, tenant_id: str) -> list[Webhook]:
        """As `WebhookStore.all`."""
        return await self._find(tenant_id, None)

    async def get(self, tenant_id: str, webhook_id: UUID) -> Webhook | None:
        """As `WebhookStore.get`."""
        found = await self._find(tenant_id, webhook_id)
        return found[0] if found else None

    async def add(
        self, tenant_id: str, webhook_id: UUID, settings: WebhookSettings, secret: str, actor: Actor
    ) -> bool:
        """As `WebhookStore.add`."""
        pools = self._pools.as_tenant(tenant_id)
        given = (webhook_id, tenant_id, *_columns(settings), secret, MAX_WEBHOOKS)
        return bool(await write(pools, "add_webhook", *given, *who(actor)))

    async def replace(
        self, tenant_id: str, webhook_id: UUID, settings: WebhookSettings, actor: Actor
    ) -> bool:
        """As `WebhookStore.replace`."""
        pools = self._pools.as_tenant(tenant_id)
        given = (webhook_id, tenant_id, *_columns(settings))
        return bool(await write(pools, "replace_webhook", *given, *who(actor)))

    async def remove(self, tenant_id: str, webhook_id: UUID, actor: Actor) -> bool:
        """As `WebhookStore.remove`."""
        pools = self._pools.as_tenant(tenant_id)
        return bool(await write(pools, "remove_webhook", webhook_id, tenant_id, *who(actor)))

    async def rotate(self, tenant_id: str, webhook_id: UUID, secret: str, actor: Actor) -> bool:
        """As `WebhookStore.rotate`."""
        pools = self._pools.as_tenant(tenant_id)
        given = (webhook_id, tenant_id, secret, OVERLAP_MS)
        return bool(await write(pools, "rotate_webhook_secret", *given, *who(actor)))

    async def deliveries(self, webhook_id: UUID, *, limit: int, after: UUID | None) -> Page[Delivery]:
        """As `WebhookStore.deliveries`. The jobs are the system's, so no tenant's wall is around this."""
        rows = await self._pools.read.fetch(
            statement("find_deliveries"), str(webhook_id), after or LAST_ID, limit + 1
        )
        page = [_delivery(row) for row in rows[:limit]]
        return Page(page, page[-1].id if len(rows) > limit else None)

    async def target(self, webhook_id: UUID) -> WebhookTarget | None:
        """As `WebhookStore.target`."""
        row = await self._pools.read.fetchrow(statement("webhook_target"), webhook_id)
        return None if row is None else WebhookTarget(**row)

    async def delivered(self, webhook_id: UUID) -> None:
        """As `WebhookStore.delivered`."""
        await write(self._pools, "webhook_delivered", webhook_id)

    async def failed(self, webhook_id: UUID, *, is_gone: bool) -> bool:
        """As `WebhookStore.failed`."""
        given = (webhook_id, is_gone, MAX_FAILURES, FAILING_MS, ActorKind.WORKER, _ACTOR_ID)
        rows = await write(self._pools, "webhook_failed", *given)
        return bool(rows) and bool(rows[0]["disabled"])

    async def relay(self) -> Relayed:
        """As `WebhookStore.relay`."""
        return await relay(self._pools)

    async def _find(self, tenant_id: str, webhook_id: UUID | None) -> list[Webhook]:
        pools = self._pools.as_tenant(tenant_id)
        rows = await pools.read.fetch(statement("find_webhooks"), tenant_id, webhook_id)
        return [Webhook(**row) for row in rows]


def _columns(settings: WebhookSettings) -> tuple[str, list[str], list[str], list[str], bool]:
    return settings.url, settings.events, settings.queues, settings.types, settings.enabled


def _delivery(row: Any) -> Delivery:
    return Delivery(**{**row, "status": JobStatus(row["status"])})
