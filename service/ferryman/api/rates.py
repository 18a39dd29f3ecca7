"""The `RateLimit-*` headers: how the tightest limit of a request stands."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from ferryman.api.keys import RATE
from ferryman.core.rates import Taken


def note(request: web.Request, taken: Taken | None) -> None:
    """Let the answer to this request say how the limit stands, unless a tighter one was noted before."""
    if taken is not None and ((noted := request.get(RATE)) is None or taken.remaining < noted.remaining):
        request[RATE] = taken


def rate_headers(taken: Taken) -> Mapping[str, str]:
    """What the bucket holds when it is full, what it holds now, and in how many seconds it will be full."""
    return {
        "RateLimit-Limit": str(taken.limit),
        "RateLimit-Remaining": str(taken.remaining),
        "RateLimit-Reset": str(-(-taken.reset_ms // 1_000)),
    }
