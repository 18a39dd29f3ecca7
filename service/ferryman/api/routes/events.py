"""Live events of a tenant."""

from __future__ import annotations

from typing import Final

from ferryman.api.bodies import QueryReader
from ferryman.api.routing import Route
from ferryman.api.schemas import EventsQuery
from ferryman.api.streams import open_stream
from ferryman.auth.policy import Call

ROUTES: Final = (
    Route(
        method="GET",
        path="/api/events",
        name="streamEvents",
        summary="Follow what happens to jobs, queues and workers",
        details=(
            "A WebSocket, or server-sent events with `Accept: text/event-stream`. Each frame is a JSON "
            "object whose `event` says what it is: `ready`, `job.changed`, `dead_letter.changed`, "
            "`queue.status`, `worker.changed`, `coalesced`, `gap`. `after` or `Last-Event-ID` goes on behind "
            "an `eventId` of the last day. Browsers offer the subprotocol `ferryman.events.v1` and say who "
            "they are in their first message. A user sees the user's own jobs."
        ),
        tag="events",
        call=Call.EVENT_READ,
        open_stream=open_stream,
        query=QueryReader(EventsQuery),
        answers={
            200: (None, "Server-sent events, until the token ends"),
            101: (None, "A WebSocket, until the token ends"),
        },
        problems=("not_a_stream", "origin_refused", "too_many_streams"),
    ),
)
