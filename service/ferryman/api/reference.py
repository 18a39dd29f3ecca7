"""The description and its page, made once at start."""

from __future__ import annotations

import msgspec
from aiohttp import web

from ferryman.api.docs_page import CONTENT_SECURITY_POLICY, render
from ferryman.api.openapi import describe


class Reference:
    """Answers /openapi.json and /docs."""

    def __init__(self, version: str) -> None:
        self._json = msgspec.json.encode(describe(version))
        self._page = render(msgspec.json.decode(self._json)).encode()

    async def openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._json, content_type="application/json")

    async def docs(self, _: web.Request) -> web.Response:
        return web.Response(
            body=self._page,
            content_type="text/html",
            charset="utf-8",
            headers={
                "Content-Security-Policy": CONTENT_SECURITY_POLICY,
                "Referrer-Policy": "no-referrer",
            },
        )
