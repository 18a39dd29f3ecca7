"""Webhooks: endpoints that hear of a tenant's jobs, their secrets, and what was sent to them."""

from __future__ import annotations

from typing import Final

from ferryman.api.bodies import BodyReader, QueryReader
from ferryman.api.cursors import encode_cursor, read_cursor
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.problems import FieldError, invalid
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import DeliveriesQuery, WebhookOrder, webhook_settings
from ferryman.api.services import Services
from ferryman.api.webhook_views import (
    DeliveriesView,
    SignedWebhookView,
    WebhookListView,
    WebhookView,
    delivery_view,
    signed_view,
    webhook_view,
)
from ferryman.auth.policy import Call
from ferryman.lifecycle.failures import RefusedUrlError

_DELIVERIES: Final = "deliveries"
_EXAMPLE: Final = {
    "url": "https://hooks.example.com/ferryman",
    "events": ["job.completed", "job.dead_lettered"],
    "queues": ["default"],
}


async def list_webhooks(services: Services, exchange: Exchange) -> Answer:
    webhooks = await services.webhooks.all(exchange.asker)
    return Answer(200, WebhookListView([webhook_view(one) for one in webhooks]))


async def add(services: Services, exchange: Exchange) -> Answer:
    try:
        signed = await services.webhooks.add(exchange.asker, webhook_settings(exchange.body))
    except RefusedUrlError as error:
        raise _bad_url(error) from None
    return Answer(201, signed_view(signed), {"Location": f"/api/webhooks/{signed.webhook.id}"})


async def get_webhook(services: Services, exchange: Exchange) -> Answer:
    webhook = await services.webhooks.get(exchange.asker, exchange.id("webhookId", "webhook"))
    return Answer(200, webhook_view(webhook))


async def replace(services: Services, exchange: Exchange) -> Answer:
    webhook_id = exchange.id("webhookId", "webhook")
    settings = webhook_settings(exchange.body)
    try:
        return Answer(
            200, webhook_view(await services.webhooks.replace(exchange.asker, webhook_id, settings))
        )
    except RefusedUrlError as error:
        raise _bad_url(error) from None


async def remove(services: Services, exchange: Exchange) -> Answer:
    await services.webhooks.remove(exchange.asker, exchange.id("webhookId", "webhook"))
    return Answer(204)


async def rotate(services: Services, exchange: Exchange) -> Answer:
    signed = await services.webhooks.rotate(exchange.asker, exchange.id("webhookId", "webhook"))
    return Answer(200, signed_view(signed))


async def list_deliveries(services: Services, exchange: Exchange) -> Answer:
    query: DeliveriesQuery = exchange.query
    webhook_id = exchange.id("webhookId", "webhook")
    after = read_cursor(_DELIVERIES, query.cursor)
    page = await services.webhooks.deliveries(exchange.asker, webhook_id, limit=query.limit, after=after)
    next_cursor = encode_cursor(_DELIVERIES, page.next_after) if page.next_after else None
    return Answer(200, DeliveriesView([delivery_view(one) for one in page.rows], next_cursor))


def _bad_url(error: RefusedUrlError) -> Exception:
    return invalid(FieldError("url", str(error)))


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/webhooks",
        name="listWebhooks",
        summary="List the tenant's endpoints, the oldest first",
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=list_webhooks,
        answers={200: (WebhookListView, "Every endpoint")},
        examples=(Example(),),
    ),
    Route(
        method="POST",
        path="/api/webhooks",
        name="createWebhook",
        summary="Let an endpoint hear of what happens to jobs from now on",
        details=(
            "Without `events`, `queues` or `types`: of every one. The answer shows the secret, this once. By "
            "it the receiver checks the header `Ferryman-Signature`, `t=<unix>,v1=<hex>`: each `v1` is the "
            "HMAC-SHA256 of `<t>.<body>` under one secret that holds."
        ),
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=add,
        body=BodyReader(WebhookOrder),
        answers={201: (SignedWebhookView, "The endpoint, with its secret")},
        problems=("too_many_webhooks",),
        examples=(Example(body=_EXAMPLE, status=201),),
    ),
    Route(
        method="GET",
        path="/api/webhooks/{webhookId}",
        name="getWebhook",
        summary="Read an endpoint and how it does",
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=get_webhook,
        answers={200: (WebhookView, "The endpoint")},
        problems=("not_found",),
        examples=(Example(),),
    ),
    Route(
        method="PUT",
        path="/api/webhooks/{webhookId}",
        name="replaceWebhook",
        summary="Replace an endpoint's settings",
        details=(
            "What is left out takes its default; the secret stays. An endpoint that was disabled and is now "
            "enabled hears of what happens from now on."
        ),
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=replace,
        body=BodyReader(WebhookOrder),
        answers={200: (WebhookView, "The endpoint")},
        problems=("not_found",),
        examples=(Example(body=_EXAMPLE),),
    ),
    Route(
        method="DELETE",
        path="/api/webhooks/{webhookId}",
        name="deleteWebhook",
        summary="Remove an endpoint",
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=remove,
        answers={204: (None, "Nothing more is sent to it")},
        problems=("not_found",),
        examples=(Example(status=204),),
    ),
    Route(
        method="POST",
        path="/api/webhooks/{webhookId}/rotate-secret",
        name="rotateWebhookSecret",
        summary="Give an endpoint a new secret",
        details="The one before it signs beside it for 24 hours; an older one no longer.",
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=rotate,
        answers={200: (SignedWebhookView, "The endpoint, with its new secret")},
        problems=("not_found",),
        examples=(Example(),),
    ),
    Route(
        method="GET",
        path="/api/webhooks/{webhookId}/deliveries",
        name="listWebhookDeliveries",
        summary="List what was sent to an endpoint or will be, the newest event first",
        tag="webhooks",
        call=Call.WEBHOOK,
        handle=list_deliveries,
        query=QueryReader(DeliveriesQuery),
        answers={200: (DeliveriesView, "One page")},
        problems=("not_found", "invalid_cursor"),
        examples=(Example(query="limit=10"),),
    ),
)
