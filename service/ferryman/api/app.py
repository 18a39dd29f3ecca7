"""The application: the route table behind one middleware, and the open pages beside it."""

from __future__ import annotations

import asyncio

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
        app.router.add_route(route.method, route.path, endpoint(route, services))
    _add_open_pages(app, services)
    app.on_shutdown.append(_release)
    return app


def begin_stopping(app: web.Application) -> None:
    """Say at `/readyz` that no more calls should come; those that do come are answered."""
    app[STOPPING].set()


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
