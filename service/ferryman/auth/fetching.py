"""Fetching a small document from an address of the configuration: bounded in every way, and nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import aiohttp

FETCH_SECONDS: Final = 5.0
MAX_BYTES: Final = 256 * 1_024
_CHUNK: Final = 16_384


class FetchError(Exception):
    """The document could not be had or taken. The message holds neither address nor content."""


class Fetcher:
    """Gets one document. No redirect, no proxy, no cookie, no compression, 5 s and 256 kB at most.

    `ca` is a file with the certificates to trust in place of the system's; `bearer` a file with a token to
    present, read anew each time because such tokens are replaced. Raises ValueError for a `ca` that is none.
    """

    def __init__(self, url: str, *, ca: Path | None = None, bearer: Path | None = None) -> None:
        self._url = url
        self._bearer = bearer
        try:
            self._trust = ssl.create_default_context(cafile=ca)
        except (ssl.SSLError, OSError):
            raise ValueError(f"{ca} holds no certificates in PEM") from None

    async def __call__(self) -> bytes:
        """The document. Raises FetchError."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", **self._credentials()}
        try:
            async with (
                asyncio.timeout(FETCH_SECONDS),
                aiohttp.ClientSession(
                    cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
                ) as session,
                session.get(self._url, headers=headers, ssl=self._trust, allow_redirects=False) as answer,
            ):
                return await _read(answer)
        except TimeoutError:
            raise FetchError(f"no whole answer within {FETCH_SECONDS:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise FetchError(f"the address cannot be read ({type(error).__name__})") from None

    def _credentials(self) -> dict[str, str]:
        if self._bearer is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._bearer.read_text('ascii').strip()}"}
        except (OSError, UnicodeDecodeError):
            raise FetchError("the token to present cannot be read") from None


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    if answer.status != 200:
        raise FetchError(f"the answer has status {answer.status}")
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("the answer is compressed, which was not asked for")
    raw = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        raw += chunk
        if len(raw) > MAX_BYTES:
            raise FetchError(f"the answer is larger than {MAX_BYTES} bytes")
    return bytes(raw)
