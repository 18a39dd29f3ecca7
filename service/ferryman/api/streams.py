"""Streams of events: a WebSocket or server-sent events over one outbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from ferryman.api.bodies import BodyReader
from ferryman.api.exchange import EVENTS_PROTOCOL, asker_of
from ferryman.api.keys import CORRELATION
from ferryman.api.peers import peer_of
from ferryman.api.problems import Problem
from ferryman.api.schemas import EventsQuery, StreamMessage, event_filter, given
from ferryman.api.services import Services
from ferryman.auth.keys import KeysUnavailableError
from ferryman.auth.policy import Call, ForbiddenError, Ownership, TenantRequiredError, may
from ferryman.auth.tokens import TokenRefusedError
from ferryman.core.events import Mark, parse
from ferryman.lifecycle.asker import Asker
from ferryman.lifecycle.events import Listener
from ferryman.lifecycle.failures import RateLimitedError, TooManyStreamsError
from ferryman.lifecycle.outbox import Frame, Outbox
from ferryman.ports import LedgerError

HELLO_SECONDS: Final = 5.0
HEARTBEAT_SECONDS: Final = 15.0
TOKEN_SECONDS: Final = 2.0
MAX_MESSAGE_BYTES: Final = 4_096
MAX_SUBSCRIPTIONS: Final = 20
_CLOSE_SECONDS: Final = 2.0
# Why the server ends a stream, as WebSocket close codes.
CLOSE_CODES: Final = {
    "left": 1000,
    "shutdown": 1001,
    "bad_message": 1008,
    "slow": 1013,
    "ledger_unavailable": 1013,
    "unauthorized": 4401,
    "forbidden": 4403,
    "too_many_streams": 4429,
}
_READER: Final = BodyReader(StreamMessage)


class Stream:
    """One reader: who it is, and what waits for it."""

    def __init__(self, services: Services, request: web.Request, asker: Asker, query: EventsQuery) -> None:
        """Raises ForbiddenError, TenantRequiredError."""
        self._services = services
        self._request = request
        self.token = _token(request)
        scope = asker.scope(Call.EVENT_READ)
        assert scope.tenant_id is not None, "nobody reads events across tenants"
        self.subject = asker.principal.subject
        self.outbox = Outbox(thin=services.frames.coalesced, thinned=query.coalesce)
        self.listener = Listener(
            tenant_id=scope.tenant_id,
            user_id=scope.user_id,
            filters=[event_filter(query)],
            sees_workers=may(asker.principal, Call.WORKER_READ, Ownership.ALL) is not None,
            outbox=self.outbox,
        )

    @asynccontextmanager
    async def live(self, after: Mark | None, *beside: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Admit the reader, and hand events to it for the block. Raises TooManyStreamsError."""
        hub = self._services.events
        async with hub.admitted(self.listener.tenant_id, self.subject, self.outbox):
            work = (self._listen(after), self._guard(), *beside)
            tasks = [asyncio.create_task(one) for one in work]
            try:
                yield
            finally:
                hub.leave(self.listener)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def send_all(self, send: Callable[[list[Frame]], Awaitable[None]]) -> None:
        """Send what comes until the outbox is closed; an empty list is a heartbeat."""
        try:
            while self.outbox.reason is None:
                frames = await self.outbox.take(at_most_s=HEARTBEAT_SECONDS)
                if self.outbox.reason is None:
                    await send(frames)
        except (ConnectionError, RuntimeError):
            self.outbox.close("left")

    async def renew(self, token: str) -> None:
        """Go on under a fresh token of the same bearer. Raises TokenRefusedError, KeysUnavailableError."""
        principal = await self._services.given.verifier.authenticate(token)
        asker = asker_of(self._request, principal, self._request[CORRELATION])
        scope = asker.scope(Call.EVENT_READ)
        listener = self.listener
        if asker.principal.subject != self.subject or scope.tenant_id != listener.tenant_id:
            raise ForbiddenError("the token is another bearer's")
        listener.user_id = scope.user_id
        listener.sees_workers = may(principal, Call.WORKER_READ, Ownership.ALL) is not None
        self.token = token

    async def _listen(self, after: Mark | None) -> None:
        try:
            await self._services.events.listen(self.listener, after)
        except LedgerError:
            self.outbox.close("ledger_unavailable")

    async def _guard(self) -> None:
        """End the stream when its token does, or is no longer good."""
        while True:
            await asyncio.sleep(TOKEN_SECONDS)
            try:
                await self._services.given.verifier.authenticate(self.token)
            except TokenRefusedError:
                self.outbox.close("unauthorized")
            except KeysUnavailableError:
                continue  # not the bearer's fault; the key it came with was good


async def open_stream(
    services: Services, request: web.Request, asker: Asker | None, query: EventsQuery
) -> web.StreamResponse:
    """The stream that the request asks for. Raises Problem, and refusals while nothing was sent."""
    _check_origin(request, services.given.limits.events_origins)
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _websocket(services, request, asker, query)
    if "text/event-stream" in request.headers.get("Accept", "") and asker is not None:
        return await _server_sent(services, request, asker, query)
    raise Problem("not_a_stream", "ask for a WebSocket, or with Accept: text/event-stream")


def _check_origin(request: web.Request, allowed: tuple[str, ...]) -> None:
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() not in allowed:
        raise Problem("origin_refused", "this origin is not among FERRYMAN_EVENTS_ORIGINS")


def _after(request: web.Request, query: EventsQuery) -> Mark | None:
    last = request.headers.get("Last-Event-ID")
    return parse(last) if last else parse(given(query.after) or "")


# --------------------------------------------------------------------------------------- server-sent events


async def _server_sent(
    services: Services, request: web.Request, asker: Asker, query: EventsQuery
) -> web.StreamResponse:
    stream = Stream(services, request, asker, query)
    async with stream.live(_after(request, query)):
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                "X-Content-Type-Options": "nosniff",
                "X-Correlation-Id": request[CORRELATION],
            }
        )
        response.enable_chunked_encoding()
        with suppress(ConnectionError):
            await response.prepare(request)

            async def send(frames: list[Frame]) -> None:
                await response.write("".join(map(_event, frames)).encode() if frames else b":\n\n")

            await _until_closed(stream, stream.send_all(send))
            if stream.outbox.reason == "slow" and request.transport is not None:
                request.transport.abort()
            else:
                await response.write_eof()
        return response


def _event(frame: Frame) -> str:
    place = f"id: {frame.mark}\n" if frame.mark is not None else ""
    return f"{place}event: {frame.kind}\ndata: {frame.text}\n\n"


async def _until_closed(stream: Stream, sending: Coroutine[Any, Any, None]) -> None:
    """Send until the outbox is closed, and then no more: what has not gone out comes with the next resume."""
    task = asyncio.create_task(sending)
    try:
        await stream.outbox.closed.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# ------------------------------------------------------------------------------------------------ WebSocket


async def _websocket(
    services: Services, request: web.Request, asker: Asker | None, query: EventsQuery
) -> web.StreamResponse:
    socket = web.WebSocketResponse(
        protocols=(EVENTS_PROTOCOL,),
        heartbeat=HEARTBEAT_SECONDS,
        max_msg_size=MAX_MESSAGE_BYTES,
        compress=False,
        timeout=_CLOSE_SECONDS,
    )
    socket.headers["X-Correlation-Id"] = request[CORRELATION]
    if not socket.can_prepare(request):
        raise Problem("not_a_stream", "the WebSocket handshake is broken")
    await socket.prepare(request)
    reason = await _converse(services, request, socket, asker, query)
    with suppress(ConnectionError):
        await socket.close(code=CLOSE_CODES[reason], message=reason.encode())
    return socket


async def _converse(
    services: Services,
    request: web.Request,
    socket: web.WebSocketResponse,
    asker: Asker | None,
    query: EventsQuery,
) -> str:
    """Why the conversation ended."""
    after, token = _after(request, query), None
    try:
        if asker is None:
            asker, token, last = await _hello(services, request, socket)
            after = last or after
        stream = Stream(services, request, asker, query)
        stream.token = token or stream.token

        async def send(frames: list[Frame]) -> None:
            for frame in frames:
                await socket.send_str(frame.text)

        async with stream.live(after, _read(stream, socket, services)):
            await _until_closed(stream, stream.send_all(send))
            return stream.outbox.reason or "left"
    except (TokenRefusedError, KeysUnavailableError, RateLimitedError):
        return "unauthorized"
    except (ForbiddenError, TenantRequiredError):
        return "forbidden"
    except TooManyStreamsError:
        return "too_many_streams"
    except Problem:
        return "bad_message"


async def _hello(
    services: Services, request: web.Request, socket: web.WebSocketResponse
) -> tuple[Asker, str, Mark | None]:
    """Who it is, by the first message. Raises TokenRefusedError and what else refuses a bearer."""
    try:
        message = await socket.receive(timeout=HELLO_SECONDS)
    except TimeoutError:
        raise TokenRefusedError("no hello came") from None
    hello = _message(message.data).hello if message.type is WSMsgType.TEXT else None
    if hello is None:
        raise TokenRefusedError("the first message is no hello")
    try:
        principal = await services.given.verifier.authenticate(hello.token)
    except TokenRefusedError:
        await services.rates.failed_login(peer_of(request, services.given.limits.trusted_proxies))
        raise
    await services.rates.call(principal)
    asker = asker_of(request, principal, request[CORRELATION])
    return asker, hello.token, parse(hello.last_event_id or "")


async def _read(stream: Stream, socket: web.WebSocketResponse, services: Services) -> None:
    """Take the reader's messages until it leaves."""
    reason = "left"
    try:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                reason = "bad_message"
                break
            await _obey(stream, _message(message.data), services)
    except Problem:
        reason = "bad_message"
    except (TokenRefusedError, KeysUnavailableError):
        reason = "unauthorized"
    except (ForbiddenError, TenantRequiredError):
        reason = "forbidden"
    stream.outbox.close(reason)


async def _obey(stream: Stream, message: StreamMessage, services: Services) -> None:
    filters = stream.listener.filters
    if message.renew is not None:
        await stream.renew(message.renew.token)
    if message.subscribe is not None and (wanted := event_filter(message.subscribe)) not in filters:
        if len(filters) >= MAX_SUBSCRIPTIONS:
            raise Problem("invalid_request", f"a stream has at most {MAX_SUBSCRIPTIONS} subscriptions")
        filters.append(wanted)
    if message.unsubscribe is not None and (unwanted := event_filter(message.unsubscribe)) in filters:
        filters.remove(unwanted)
    if message.subscribe is not None or message.unsubscribe is not None:
        stream.outbox.offer(services.frames.note("subscribed", None, count=len(filters)))


def _message(text: object) -> StreamMessage:
    """Raises Problem."""
    message: StreamMessage = _READER.read(str(text).encode("utf-8", "replace"))
    if msgspec.structs.astuple(message) == (None, None, None, None):
        raise Problem("invalid_request", "a message takes one of hello, renew, subscribe and unsubscribe")
    return message


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").partition(" ")[2].strip()
