"""Every call under /api, in one table."""

from __future__ import annotations

from typing import Final

from ferryman.api.routes import dead_letters, figures, jobs, queues, upkeep
from ferryman.api.routing import Route

# Fixed paths stand before those with names in them.
ROUTES: Final[tuple[Route, ...]] = (
    *figures.ROUTES,
    *upkeep.ROUTES,
    *jobs.ROUTES,
    *dead_letters.ROUTES,
    *queues.ROUTES,
)
