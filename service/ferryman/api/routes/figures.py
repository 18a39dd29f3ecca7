"""Figures: statistics of a window, and the status of queues."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ferryman.api.bodies import QueryReader
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.problems import FieldError, invalid
from ferryman.api.queue_views import QueueStatusesView, StatsView, status_view
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import StatsParameters, StatusQuery, given
from ferryman.api.services import Services
from ferryman.api.views import timed
from ferryman.auth.policy import Call
from ferryman.ports import StatsQuery

_DEFAULT_WINDOW: Final = timedelta(hours=24)


async def stats(services: Services, exchange: Exchange) -> Answer:
    query: StatsParameters = exchange.query
    end = given(query.to) or services.given.clock.now()
    start = given(query.from_) or end - _DEFAULT_WINDOW
    if start >= end:
        raise invalid(FieldError("from", "takes a time before `to`"))
    wanted = StatsQuery(start=start, end=end, queue=given(query.queue), type=given(query.type))
    return Answer(200, timed(await services.lookup.stats(exchange.asker, wanted)))


async def queue_status(services: Services, exchange: Exchange) -> Answer:
    query: StatusQuery = exchange.query
    queue = given(query.queue)
    statuses = await services.figures.status(exchange.asker, queue, wait_ms=query.wait)
    views = [status_view(status) for status in statuses]
    return Answer(200, QueueStatusesView(views) if queue is None else views[0])


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/jobs/stats",
        name="getStats",
        summary="Read counts, rates and percentiles of a window",
        details="What ended in the window, and submissions by creation. Without `from`: the last 24 hours.",
        tag="figures",
        call=Call.STATS_READ,
        handle=stats,
        query=QueryReader(StatsParameters),
        answers={200: (StatsView, "The figures of the tenant")},
        problems=("query_too_expensive",),
        examples=(Example(query="from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&queue=default"),),
    ),
    Route(
        method="GET",
        path="/api/jobs/queue/status",
        name="getQueueStatus",
        summary="Read what waits and runs in one queue, or in all",
        details=(
            "A tenant sees its own share, the roles platform and service the whole. With `queue` the answer "
            "is that queue's object itself. `wait` holds the answer while a queue sleeps: no work, no worker."
        ),
        tag="figures",
        call=Call.FIGURES_READ,
        handle=queue_status,
        is_bounded=False,
        query=QueryReader(StatusQuery),
        answers={200: (QueueStatusesView, "Every queue by name; with `queue` that one alone")},
        problems=("not_found", "too_many_waits"),
        examples=(Example(query="queue=default"), Example()),
    ),
)
