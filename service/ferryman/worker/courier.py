"""The courier: posts to addresses that tenants chose, and to no other than they may choose.

A name is resolved for each request, every address it has is checked, and the connection goes to what was
checked: a name that points elsewhere a moment later leads nowhere else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from ferryman.core.addresses import is_public, url_fault

SECONDS: Final = 10.0


class UndeliveredError(Exception):
    """There was no answer. The message holds no address: who reads it may not know our network."""


class ForbiddenAddressError(UndeliveredError):
    """The URL leads to an internal address."""

    def __init__(self) -> None:
        super().__init__("the URL leads to an address that is not public")


class CheckedResolver(AbstractResolver):
    """Answers for names all of whose addresses are public; raises ForbiddenAddressError for others."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As the inner resolver does. Raises ForbiddenAddressError, OSError."""
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(one["host"]) for one in found):
            raise ForbiddenAddressError
        return found

    async def close(self) -> None:
        await self._inner.close()


class Courier:
    """Posts one body at a time: no redirect, no proxy, no cookie, no kept connection, 10 s in all."""

    def __init__(self, *, allow_private: bool, resolver: AbstractResolver | None = None) -> None:
        self._allow_private = allow_private
        self._resolver = resolver

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer, whose body is not read. Raises UndeliveredError."""
        # Again: what was allowed when the endpoint was made may not be any more. Addresses that stand in the
        # URL itself are judged here, for no resolver sees them.
        if (fault := url_fault(url, allow_private=self._allow_private)) is not None:
            raise UndeliveredError(f"the endpoint's URL is refused: {fault}")
        try:
            async with (
                asyncio.timeout(SECONDS),
                aiohttp.ClientSession(
                    connector=self._connector(),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    trust_env=False,
                ) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                return answer.status
        except TimeoutError:
            raise UndeliveredError(f"no answer within {SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UndeliveredError(f"the URL cannot be reached ({type(error).__name__})") from None

    def _connector(self) -> aiohttp.TCPConnector:
        inner = self._resolver or aiohttp.ThreadedResolver()
        resolver = inner if self._allow_private else CheckedResolver(inner)
        return aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
