"""Workers: who is there, drain, and word that one is gone."""

from __future__ import annotations

from typing import Final

from ferryman.api.exchange import Answer, Exchange
from ferryman.api.installation_views import WorkerListView, WorkerView, worker_view
from ferryman.api.routing import Example, Route
from ferryman.api.services import Services
from ferryman.auth.policy import Call
from ferryman.lifecycle.failures import not_found

_MAX_ID_CHARS: Final = 100


async def list_workers(services: Services, exchange: Exchange) -> Answer:
    records = await services.workers.all(exchange.asker)
    return Answer(200, WorkerListView([worker_view(record) for record in records]))


async def drain(services: Services, exchange: Exchange) -> Answer:
    record = await services.workers.set_drain(exchange.asker, _worker_id(exchange), True)
    return Answer(202, worker_view(record))


async def undrain(services: Services, exchange: Exchange) -> Answer:
    record = await services.workers.set_drain(exchange.asker, _worker_id(exchange), False)
    return Answer(202, worker_view(record))


async def dismiss(services: Services, exchange: Exchange) -> Answer:
    await services.workers.dismiss(exchange.asker, _worker_id(exchange))
    return Answer(204)


def _worker_id(exchange: Exchange) -> str:
    """The worker of the path. Raises NotFoundError for what cannot name one."""
    worker_id = exchange.request.match_info["workerId"]
    if len(worker_id) > _MAX_ID_CHARS or not worker_id.isprintable():
        raise not_found("worker")
    return worker_id


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/workers",
        name="listWorkers",
        summary="List the workers with their slots and their last heartbeat",
        tag="workers",
        call=Call.WORKER_READ,
        handle=list_workers,
        answers={200: (WorkerListView, "Every worker by id")},
        examples=(Example(),),
    ),
    Route(
        method="POST",
        path="/api/workers/{workerId}/drain",
        name="drainWorker",
        summary="Ask a worker to claim nothing more",
        details="It hears of it within two seconds, lets what runs end, and is `drained` when it is idle.",
        tag="workers",
        call=Call.WORKER_DRAIN,
        handle=drain,
        answers={202: (WorkerView, "The worker; its `state` follows with its next heartbeat")},
        problems=("not_found",),
        examples=(Example(status=202),),
    ),
    Route(
        method="DELETE",
        path="/api/workers/{workerId}/drain",
        name="undrainWorker",
        summary="Let a worker claim jobs again",
        tag="workers",
        call=Call.WORKER_DRAIN,
        handle=undrain,
        answers={202: (WorkerView, "The worker; its `state` follows with its next heartbeat")},
        problems=("not_found",),
        examples=(Example(status=202),),
    ),
    Route(
        method="DELETE",
        path="/api/workers/{workerId}",
        name="dismissWorker",
        summary="Say that a worker's pod is gone",
        details=(
            "Its leases end at once, and its jobs wait again. The answer is held until its next heartbeat is "
            "overdue, two and a half seconds at most."
        ),
        tag="workers",
        call=Call.WORKER_DISMISS,
        handle=dismiss,
        answers={204: (None, "The worker is forgotten")},
        problems=("not_found", "worker_alive"),
        examples=(Example(status=204),),
    ),
)
