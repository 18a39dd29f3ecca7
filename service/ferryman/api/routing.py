"""The route table's rows, and the way of a request through one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from ferryman.api.bodies import BodyReader, QueryReader
from ferryman.api.exchange import (
    Answer,
    Exchange,
    asker_of,
    authenticate,
    introduces_itself_later,
    refuse_token_in_url,
)
from ferryman.api.keys import CORRELATION
from ferryman.api.peers import peer_of
from ferryman.api.problems import Problem
from ferryman.api.rates import note
from ferryman.api.schemas import NoFields, NoParameters
from ferryman.api.services import Services
from ferryman.auth.policy import Call
from ferryman.auth.principal import Principal
from ferryman.auth.tokens import TokenRefusedError
from ferryman.lifecycle.asker import Asker

Handle = Callable[[Services, Exchange], Awaitable[Answer]]

OpenStream = Callable[[Services, web.Request, Asker | None, Any], Awaitable[web.StreamResponse]]
"""Answers with a stream; without an asker when the caller says who it is in the stream's first message."""

_ENCODER: Final = msgspec.json.Encoder()
_JSON: Final = "application/json"
_SOON: Final = {"Retry-After": "1"}
# A 503 comes within five seconds (contract, section 10).
ANSWER_SECONDS: Final = 4.5
_NO_QUERY: Final = QueryReader(NoParameters)
_NO_BODY: Final = BodyReader(NoFields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A call that works as it stands: OpenAPI shows it, a test makes it. `path` fills the path's names."""

    body: Any = None
    query: str = ""
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One call: what it takes, who may, what it answers. OpenAPI and the router read the same row.

    `answers` maps a status to the shape of its body and a sentence; `problems` are codes beside those that
    every call has. A body that is not `body_required` may be left out. Not `is_bounded` are calls that are
    held, take their time, or keep to a time of their own. With `open_stream` the answer is a stream.
    """

    method: str
    path: str
    name: str
    summary: str
    tag: str
    call: Call
    answers: Mapping[int, tuple[type[Any] | None, str]]
    body: BodyReader | None = None
    body_required: bool = True
    is_bounded: bool = True
    query: QueryReader = _NO_QUERY
    problems: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    details: str = ""
    handle: Handle | None = None
    open_stream: OpenStream | None = None
    examples: tuple[Example, ...] = field(default=())


def endpoint(route: Route, services: Services) -> Handler:
    """The aiohttp handler of a route: let in, decode, handle, encode."""
    limits = services.given.limits
    if route.open_stream is not None:
        return _stream_endpoint(route, route.open_stream, services)
    work = route.handle
    assert work is not None, f"{route.name} has neither handle nor open_stream"

    async def handle(request: web.Request) -> web.StreamResponse:
        refuse_token_in_url(request)
        principal = await let_in(request, services)
        asker = asker_of(request, principal, request[CORRELATION])
        asker.scope(route.call)
        query = route.query.read(request.query) if request.query_string else route.query.nothing
        raw = await read_body(request, route, limits.body_seconds)
        body = None if raw is None else (route.body or _NO_BODY).read(raw)
        exchange = Exchange(request=request, asker=asker, query=query, raw=raw, body=body)
        return encode(await _answer(route, work, services, exchange))

    return handle


def _stream_endpoint(route: Route, open_stream: OpenStream, services: Services) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        refuse_token_in_url(request)
        asker = None
        if not introduces_itself_later(request):
            principal = await let_in(request, services)
            asker = asker_of(request, principal, request[CORRELATION])
            asker.scope(route.call)
        query = route.query.read(request.query) if request.query_string else route.query.nothing
        return await open_stream(services, request, asker, query)

    return handle


async def let_in(request: web.Request, services: Services) -> Principal:
    """Who asks, when no rate forbids it. Failed logins count against the address that they come from."""
    try:
        principal = await authenticate(request, services.given.verifier)
    except TokenRefusedError:
        await services.rates.failed_login(peer_of(request, services.given.limits.trusted_proxies))
        raise
    note(request, await services.rates.call(principal))
    return principal


async def _answer(route: Route, work: Handle, services: Services, exchange: Exchange) -> Answer:
    """The handler's answer, or a 503 in time. Of a change that was cut short nobody knows how it ended."""
    if not route.is_bounded:
        return await work(services, exchange)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await work(services, exchange)
    except TimeoutError:
        if route.method == "GET":
            raise Problem("ledger_unavailable", "the ledger did not answer in time", headers=_SOON) from None
        raise Problem("outcome_unknown", "look whether the change was made", headers=_SOON) from None


def encode(answer: Answer) -> web.Response:
    """An answer as bytes."""
    if answer.view is None:
        return web.Response(status=answer.status, headers=answer.headers)
    return web.Response(
        status=answer.status,
        body=_ENCODER.encode(answer.view),
        headers=answer.headers or None,
        content_type=_JSON,
    )


async def read_body(request: web.Request, route: Route, seconds: float) -> bytes | None:
    """The bytes of the body; None when the route takes none or it was left out. Raises Problem."""
    if not request.body_exists and (route.body is None or not route.body_required):
        return None
    _refuse_other_media(request)
    return await _read_raw(request, seconds)


async def _read_raw(request: web.Request, seconds: float) -> bytes:
    if request.content.is_eof():
        return await request.read()
    try:
        async with asyncio.timeout(seconds):
            return await request.read()
    except TimeoutError:
        raise Problem(
            "request_timeout", f"the body takes at most {seconds:g} s", headers={"Connection": "close"}
        ) from None


def _refuse_other_media(request: web.Request) -> None:
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_encoding", "the body is taken as it is, without Content-Encoding")
    media_type, _, parameters = headers.get("Content-Type", "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != _JSON or charset not in ("", "charset=utf-8"):
        raise Problem("unsupported_media_type", "the body is taken as application/json in UTF-8")
