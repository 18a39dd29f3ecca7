"""Where things stand in an application and in a request: one name each."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from ferryman.api.services import Services

SERVICES: Final = web.AppKey("services", Services)
CORRELATION: Final = "ferryman.correlation"
