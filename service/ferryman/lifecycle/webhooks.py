"""Webhooks: endpoints of a tenant that hear of what happens to its jobs."""

from __future__ import annotations

import os
import secrets
from typing import Final
from uuid import UUID

from msgspec import Struct

from ferryman.auth.policy import Call, Ownership
from ferryman.core.addresses import url_fault
from ferryman.core.ids import uuid7
from ferryman.core.job import Actor
from ferryman.core.webhooks import MAX_WEBHOOKS, Delivery, Webhook, WebhookSettings
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.failures import RefusedUrlError, TooManyWebhooksError, not_found
from ferryman.ports import Clock, Ledger, Page

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what secrets begin with is none
_SECRET_BYTES: Final = 32


class Signed(Struct, frozen=True):
    """An endpoint and its new secret, which is shown this once."""

    webhook: Webhook
    secret: str


class Webhooks:
    """For a tenant's admins. What names an endpoint raises NotFoundError when the tenant has no such one."""

    def __init__(self, ledger: Ledger, clock: Clock, *, allow_private: bool) -> None:
        self._webhooks = ledger.webhooks
        self._clock = clock
        self._allow_private = allow_private

    async def all(self, asker: Asker) -> list[Webhook]:
        """The tenant's endpoints, the oldest first."""
        return await self._webhooks.all(_tenant(asker))

    async def get(self, asker: Asker, webhook_id: UUID) -> Webhook:
        """One endpoint."""
        webhook = await self._webhooks.get(_tenant(asker), webhook_id)
        if webhook is None:
            raise not_found("webhook")
        return webhook

    async def add(self, asker: Asker, settings: WebhookSettings) -> Signed:
        """A new endpoint, for what happens from now on. Raises RefusedUrlError, TooManyWebhooksError."""
        self._check(settings)
        webhook_id = uuid7(int(self._clock.now().timestamp() * 1_000), os.urandom(10))
        secret = _new_secret()
        if not await self._webhooks.add(_tenant(asker), webhook_id, settings, secret, _actor(asker)):
            raise TooManyWebhooksError(f"a tenant has at most {MAX_WEBHOOKS} endpoints")
        return Signed(await self.get(asker, webhook_id), secret)

    async def replace(self, asker: Asker, webhook_id: UUID, settings: WebhookSettings) -> Webhook:
        """The endpoint with other settings and the same secret. Raises RefusedUrlError."""
        self._check(settings)
        if not await self._webhooks.replace(_tenant(asker), webhook_id, settings, _actor(asker)):
            raise not_found("webhook")
        return await self.get(asker, webhook_id)

    async def remove(self, asker: Asker, webhook_id: UUID) -> None:
        """Nothing more is sent to it."""
        if not await self._webhooks.remove(_tenant(asker), webhook_id, _actor(asker)):
            raise not_found("webhook")

    async def rotate(self, asker: Asker, webhook_id: UUID) -> Signed:
        """A new secret; the one before it signs beside it for a day."""
        secret = _new_secret()
        if not await self._webhooks.rotate(_tenant(asker), webhook_id, secret, _actor(asker)):
            raise not_found("webhook")
        return Signed(await self.get(asker, webhook_id), secret)

    async def deliveries(
        self, asker: Asker, webhook_id: UUID, *, limit: int, after: UUID | None
    ) -> Page[Delivery]:
        """What was sent to it or will be, the newest event first."""
        webhook = await self.get(asker, webhook_id)
        return await self._webhooks.deliveries(webhook.id, limit=limit, after=after)

    def _check(self, settings: WebhookSettings) -> None:
        if (fault := url_fault(settings.url, allow_private=self._allow_private)) is not None:
            raise RefusedUrlError(fault)


def _tenant(asker: Asker) -> str:
    tenant_id = asker.scope(Call.WEBHOOK).tenant_id
    assert tenant_id is not None, "the policy grants webhooks in a tenant only"
    return tenant_id


def _actor(asker: Asker) -> Actor:
    return asker.actor(Call.WEBHOOK, Ownership.TENANT)


def _new_secret() -> str:
    return SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
