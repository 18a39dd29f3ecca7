"""Requests to the API: time limits, retries where they are safe, answers as JSON, refusals as errors."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from yarl import URL

from ferryman.client.failures import (
    ClientError,
    Problem,
    UnavailableError,
    UnreachableError,
    refusal,
)

Params = Mapping[str, str | int | Sequence[str | int] | None]
Token = str | Callable[[], str]

_SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 2.0
_SHOWN_BODY_CHARS: Final = 200


class Transport:
    """An HTTP connection pool to one API, in the name of one token."""

    def __init__(
        self, url: str, token: Token | None, *, timeout: float, tries: int, headers: Mapping[str, str]
    ) -> None:
        self._base = URL(url.rstrip("/"))
        self._token = token
        self._fixed_headers = dict(headers)
        self._timeout = timeout
        self._tries = tries
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """The answer's JSON document; None for an empty answer. `path` is percent-encoded already.

        A try that certainly changed nothing is repeated, others only if the method or an Idempotency-Key
        makes that harmless. Raises UnreachableError and the refusals of `ferryman.client.failures`.
        """
        sent = self._headers(headers or {})
        is_repeatable = method in _SAFE_METHODS or "Idempotency-Key" in sent
        address = self._base.joinpath(path.lstrip("/"), encoded=True).with_query(_query(params or {}))
        for number in range(1, self._tries + 1):
            try:
                return await self._try(method, address, body, sent, timeout or self._timeout)
            except (UnreachableError, UnavailableError) as error:
                if number == self._tries or not (is_repeatable or _changed_nothing(error)):
                    raise
                await asyncio.sleep(_pause(number, error))
        raise AssertionError("unreachable: the last try returns or raises")

    async def lines(
        self, path: str, *, params: Params, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[str]:
        """The lines of one stream of server-sent events, until it ends or is silent for so many seconds.

        Raises UnreachableError and the refusals of `ferryman.client.failures`.
        """
        if self._session is None:
            raise ClientError("the client is not open: use `async with Client(...) as client`")
        sent = self._headers({"Accept": "text/event-stream", **headers})
        address = self._base.joinpath(path.lstrip("/"), encoded=True).with_query(_query(params))
        timeout = aiohttp.ClientTimeout(total=None, connect=self._timeout, sock_read=silence)
        try:
            async with self._session.get(address, headers=sent, timeout=timeout) as answer:
                if answer.status != 200:
                    _read(answer, await answer.read())
                async for line in answer.content:
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"the stream of {self._base} broke: {error or 'silence'}") from error

    def _headers(self, given: Mapping[str, str]) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        own = {"Accept": "application/json", "X-Correlation-Id": secrets.token_hex(16)}
        identity = {"Authorization": f"Bearer {token}"} if token else {}
        return own | self._fixed_headers | identity | dict(given)

    async def _try(
        self, method: str, address: URL, body: object, headers: dict[str, str], timeout: float
    ) -> Any:
        if self._session is None:
            raise ClientError("the client is not open: use `async with Client(...) as client`")
        data = None if body is None else json.dumps(body, allow_nan=False).encode()
        if data is not None:
            headers = headers | {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(timeout):
                async with self._session.request(method, address, data=data, headers=headers) as answer:
                    return _read(answer, await answer.read())
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"{self._base} cannot be reached: {error.strerror or error}") from error
        except TimeoutError as error:
            raise UnreachableError(
                f"{self._base} did not answer within {timeout:g} s", may_have_arrived=True
            ) from error
        except aiohttp.ClientError as error:
            raise UnreachableError(
                f"the connection to {self._base} broke: {error or type(error).__name__}",
                may_have_arrived=True,
            ) from error


def _query(params: Params) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        if isinstance(value, str | int):
            pairs.append((name, str(value)))
        elif value is not None:
            pairs.extend((name, str(item)) for item in value)
    return pairs


def _changed_nothing(error: UnreachableError | UnavailableError) -> bool:
    if isinstance(error, UnreachableError):
        return not error.may_have_arrived
    return error.code == "ledger_unavailable"


def _pause(number: int, error: Exception) -> float:
    """Seconds before the next try: doubled each time, spread so that many clients do not come at once."""
    asked = error.problem.retry_after_seconds if isinstance(error, UnavailableError) else None
    own = _FIRST_PAUSE_SECONDS * 2.0 ** (number - 1) * random.uniform(0.5, 1.0)
    return min(_LONGEST_PAUSE_SECONDS, max(own, asked or 0.0))


def _read(answer: aiohttp.ClientResponse, body: bytes) -> Any:
    try:
        document = json.loads(body) if body else None
    except ValueError:
        document = body.decode("utf-8", "replace")
    if answer.status < 400 and not isinstance(document, str):
        return document
    raise refusal(_problem(answer, document))


def _problem(answer: aiohttp.ClientResponse, document: object) -> Problem:
    told = document if isinstance(document, dict) else {}
    shown = document[:_SHOWN_BODY_CHARS] if isinstance(document, str) else ""
    return Problem(
        status=answer.status,
        code=str(told.get("code", "")),
        title=str(told.get("title") or f"{answer.status} {answer.reason or ''}".strip()),
        detail=str(told.get("detail") or (f"not an answer of the API: {shown!r}" if shown else "")),
        correlation_id=told.get("correlationId") or answer.headers.get("X-Correlation-Id"),
        errors=[(str(e.get("path")), str(e.get("message"))) for e in told.get("errors") or ()],
        retry_after_seconds=_seconds(answer.headers.get("Retry-After")),
        document=told,
    )


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdigit() else None
