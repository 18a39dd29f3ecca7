"""Queues and their settings."""

from __future__ import annotations

from typing import Final

from ferryman.api.bodies import SettingsReader
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.queue_views import QueuesView, QueueView, queue_view
from ferryman.api.routing import Example, Route
from ferryman.api.services import Services
from ferryman.auth.policy import Call
from ferryman.core.queues import QueueSettings


async def list_queues(services: Services, exchange: Exchange) -> Answer:
    records = await services.queues.all(exchange.asker)
    return Answer(200, QueuesView([queue_view(record) for record in records]))


async def get_queue(services: Services, exchange: Exchange) -> Answer:
    return Answer(200, queue_view(await services.queues.get(exchange.asker, exchange.queue_name())))


async def put_queue(services: Services, exchange: Exchange) -> Answer:
    name = exchange.queue_name()
    record, created = await services.queues.put(exchange.asker, name, exchange.body)
    return Answer(201 if created else 200, queue_view(record))


async def delete_queue(services: Services, exchange: Exchange) -> Answer:
    await services.queues.delete(exchange.asker, exchange.queue_name())
    return Answer(204)


async def pause(services: Services, exchange: Exchange) -> Answer:
    record = await services.queues.set_paused(exchange.asker, exchange.queue_name(), True)
    return Answer(200, queue_view(record))


async def resume(services: Services, exchange: Exchange) -> Answer:
    record = await services.queues.set_paused(exchange.asker, exchange.queue_name(), False)
    return Answer(200, queue_view(record))


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/queues",
        name="listQueues",
        summary="List the queues with their settings",
        tag="queues",
        call=Call.QUEUE_READ,
        handle=list_queues,
        answers={200: (QueuesView, "Every queue by name")},
        examples=(Example(),),
    ),
    Route(
        method="GET",
        path="/api/queues/{name}",
        name="getQueue",
        summary="Read a queue's settings",
        tag="queues",
        call=Call.QUEUE_READ,
        handle=get_queue,
        answers={200: (QueueView, "The queue")},
        problems=("not_found",),
        examples=(Example(),),
    ),
    Route(
        method="PUT",
        path="/api/queues/{name}",
        name="putQueue",
        summary="Make a queue, or replace all its settings",
        details="What is left out takes its default; `paused` alone stays as it is unless it is given.",
        tag="queues",
        call=Call.QUEUE_CHANGE,
        handle=put_queue,
        body=SettingsReader(QueueSettings),
        answers={201: (QueueView, "The queue is new"), 200: (QueueView, "The settings were replaced")},
        problems=("not_found", "built_in"),
        examples=(
            Example(
                body={
                    "maxSize": 500,
                    "visibilityTimeoutMs": 20000,
                    "retry": {"maxRetries": 5, "initialDelayMs": 500},
                    "perTenant": {"maxConcurrency": 4, "ratePerSecond": 20, "burst": 40},
                    "tenants": {"acme": {"weight": 2, "maxConcurrency": 8}},
                    "types": {"chat": {"timeoutMs": 60000}},
                },
                status=200,
            ),
        ),
    ),
    Route(
        method="DELETE",
        path="/api/queues/{name}",
        name="deleteQueue",
        summary="Delete a queue without unfinished jobs",
        tag="queues",
        call=Call.QUEUE_CHANGE,
        handle=delete_queue,
        answers={204: (None, "The queue is gone")},
        problems=("not_found", "built_in", "queue_not_empty"),
    ),
    Route(
        method="POST",
        path="/api/queues/{name}/pause",
        name="pauseQueue",
        summary="Stop claims; submissions go on",
        tag="queues",
        call=Call.QUEUE_CHANGE,
        handle=pause,
        answers={200: (QueueView, "The queue is paused")},
        problems=("not_found",),
        examples=(Example(),),
    ),
    Route(
        method="POST",
        path="/api/queues/{name}/resume",
        name="resumeQueue",
        summary="Let claims go on",
        tag="queues",
        call=Call.QUEUE_CHANGE,
        handle=resume,
        answers={200: (QueueView, "The queue goes on")},
        problems=("not_found",),
        examples=(Example(),),
    ),
)
