"""The application: the route table behind one middleware, and the open pages beside it."""

from __future__ import annotations

import asyncio
import re

from aiohttp import web

from ferryman.api.health import Health
from ferryman.api.keys import SERVICES, STOPPING
from ferryman.api.middlewares import make_edge
from ferryman.api.reference import Reference
from ferryman.api.routes import ROUTES
from ferryman.api.routing import endpoint
from ferryman.api.services import Dependencies, Services, build_services


def create_app(given: Dependencies) -> web.Application:
    """The REST API of contract, section 3. What it was given stays open when it is cleaned up."""
    services = build_services(given)
    app = web.Application(middlewares=[make_edge(given.metrics)], client_max_size=given.limits.max_body_bytes)
    app[SERVICES] = services
    app[STOPPING] = asyncio.Event()
    for route in ROUTES:
        app.router.add_route(route.method, _pattern(route.path), endpoint(route, services))
    _add_open_pages(app, services)
    app.on_shutdown.append(_release)
    return app


def begin_stopping(app: web.Application) -> None:
    """Say at `/readyz` that no more calls should come; those that do come are answered."""
    app[STOPPING].set()


def _pattern(path: str) -> str:
    """The path for the router. A name at its end is none of the fixed words that may stand there, so that a
    wrong method on those is answered as such, and not by a look for a thing of that name.
    """
    head, _, last = path.rpartition("/")
    words = {end for start, _, end in (route.path.rpartition("/") for route in ROUTES) if start == head}
    fixed = "|".join(sorted(re.escape(word) for word in words if not word.startswith("{")))
    if not last.startswith("{") or not fixed:
        return path
    return f"{head}/{{{last[1:-1]}:(?!(?:{fixed})$)[^{{}}/]+}}"


def _add_open_pages(app: web.Application, services: Services) -> None:
    health = Health(services)
    app.router.add_route("GET", "/healthz", health.live)
    app.router.add_route("GET", "/readyz", health.ready)
    app.router.add_route("GET", "/metrics", health.metrics)
    reference = Reference(services.given.build.version)
    app.router.add_route("GET", "/openapi.json", reference.openapi)
    app.router.add_route("GET", "/docs", reference.docs)


async def _release(app: web.Application) -> None:
    await app[SERVICES].release()


__all__ = ["Dependencies", "begin_stopping", "create_app"]
