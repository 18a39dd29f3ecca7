"""Where things stand in an application and in a request: one name each."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from ferryman.api.services import Services
from ferryman.core.rates import Taken

SERVICES: Final = web.AppKey("services", Services)
STOPPING: Final = web.AppKey("stopping", asyncio.Event)
CORRELATION: Final = web.RequestKey("correlation", str)
RATE: Final = web.RequestKey("rate", Taken)
