"""What the calls about webhooks answer."""

from __future__ import annotations

from typing import Any

from ferryman.api.views import Id, Shape, Time, time, time_or_none
from ferryman.core.status import JobStatus, is_waiting
from ferryman.core.webhooks import Delivery, DisabledReason, Webhook
from ferryman.lifecycle.webhooks import Signed


class WebhookView(Shape):
    """An endpoint. `disabledReason`: why Ferryman disabled it, null when somebody did; `failures` in a row
    since `failingSince`; until `previousSecretExpiresAt` the secret before the present one signs beside it.
    """

    webhook_id: Id
    tenant_id: str
    url: str
    events: list[str]
    queues: list[str]
    types: list[str]
    enabled: bool
    disabled_reason: DisabledReason | None
    disabled_at: Time | None
    failures: int
    failing_since: Time | None
    previous_secret_expires_at: Time | None
    created_at: Time
    updated_at: Time


class SignedWebhookView(WebhookView, kw_only=True):
    """An endpoint and its new secret, which is shown this once."""

    secret: str


class WebhookListView(Shape):
    """The endpoints of a tenant."""

    webhooks: list[WebhookView]


class DeliveryView(Shape):
    """One event on its way to an endpoint. `responseCode` of the latest attempt, `nextAttemptAt` while one
    is to follow; `at` is when it was made, `updatedAt` when it last changed.
    """

    delivery_id: Id
    event: str
    event_id: Id
    job_id: Id
    status: JobStatus
    attempts: int
    response_code: int | None
    error: str | None
    at: Time
    updated_at: Time
    next_attempt_at: Time | None


class DeliveriesView(Shape):
    """One page."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


def webhook_view(webhook: Webhook) -> WebhookView:
    """An endpoint in answers."""
    return WebhookView(**_fields(webhook))


def signed_view(signed: Signed) -> SignedWebhookView:
    """An endpoint whose secret is new, in answers."""
    return SignedWebhookView(**_fields(signed.webhook), secret=signed.secret)


def delivery_view(delivery: Delivery) -> DeliveryView:
    """A delivery in answers."""
    return DeliveryView(
        delivery_id=str(delivery.id),
        event=delivery.event,
        event_id=delivery.event_id,
        job_id=delivery.job_id,
        status=delivery.status,
        attempts=delivery.attempts,
        response_code=delivery.response_code,
        error=delivery.error,
        at=time(delivery.created_at),
        updated_at=time(delivery.updated_at),
        next_attempt_at=time(delivery.run_at) if is_waiting(delivery.status) else None,
    )


def _fields(webhook: Webhook) -> dict[str, Any]:
    return {
        "webhook_id": str(webhook.id),
        "tenant_id": webhook.tenant_id,
        "url": webhook.url,
        "events": webhook.events,
        "queues": webhook.queues,
        "types": webhook.types,
        "enabled": webhook.enabled,
        "disabled_reason": webhook.disabled_reason,
        "disabled_at": time_or_none(webhook.disabled_at),
        "failures": webhook.failures,
        "failing_since": time_or_none(webhook.failing_since),
        "previous_secret_expires_at": time_or_none(webhook.previous_secret_until),
        "created_at": time(webhook.created_at),
        "updated_at": time(webhook.updated_at),
    }
