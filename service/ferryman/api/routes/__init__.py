"""Every call under /api, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ferryman.api.queue_views import QueueStatusView
from ferryman.api.routes import (
    audit,
    dead_letters,
    events,
    figures,
    jobs,
    me,
    queues,
    upkeep,
    webhooks,
    workers,
)
from ferryman.api.routing import Route
from ferryman.api.views import ForeignTwinView, PreviewView

# Fixed paths stand before those with names in them.
ROUTES: Final[tuple[Route, ...]] = (
    *figures.ROUTES,
    *upkeep.ROUTES,
    *jobs.ROUTES,
    *dead_letters.ROUTES,
    *queues.ROUTES,
    *workers.ROUTES,
    *audit.ROUTES,
    *events.ROUTES,
    *webhooks.ROUTES,
    *me.ROUTES,
)

# Shapes that an answer may have instead of its route's first one, by the route's name and the status.
ALSO_ANSWERED: Final[Mapping[tuple[str, int], tuple[type[Any], ...]]] = {
    ("submitJob", 200): (ForeignTwinView,),
    ("getQueueStatus", 200): (QueueStatusView,),
    ("reconcileDeadLetters", 200): (PreviewView,),
}
