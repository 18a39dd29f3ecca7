"""A JSON Web Key Set from its address: one fetch at a time, seldom, and what was good is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ferryman.auth.fetching import FetchError
from ferryman.auth.keys import KeysUnavailableError, UnknownKeyError, VerificationKey, key_of_jwk
from ferryman.core.documents import DocumentError, check
from ferryman.ports import Clock
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

MAX_KEYS: Final = 50
MAX_KID_CHARS: Final = 128
REFETCH_SECONDS: Final = 30.0
FIRST_FETCH_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


class JwksKeys:
    """A `KeySource`. Whatever tokens come, the address is asked once in 30 s at most, and once in 5 s until
    it has answered for the first time. A set that cannot be had or taken leaves the last good one in force.
    """

    def __init__(self, fetch: Callable[[], Awaitable[bytes]], clock: Clock, metrics: Metrics) -> None:
        self._fetch = fetch
        self._clock = clock
        self._metrics = metrics
        self._keys: Mapping[str | None, VerificationKey] = {}
        self._documents = 0
        self._last: bytes | None = None
        self._not_before = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    @property
    def generation(self) -> int:
        return self._documents

    def find(self, kid: str | None) -> VerificationKey:
        """The key of that `kid`; a token without one means the only key there is."""
        key = self._keys.get(kid)
        if key is None and kid is None and len(self._keys) == 1:
            (key,) = self._keys.values()
        if key is None:
            raise UnknownKeyError("no key has its kid")
        return key

    async def renew(self) -> None:
        """Fetch the set, unless that was tried a moment ago. Callers at one time share one fetch."""
        now = self._clock.monotonic()
        if self._fetching is None and now >= self._not_before:
            self._not_before = now + (FIRST_FETCH_SECONDS if self._last is None else REFETCH_SECONDS)
            self._fetching = asyncio.create_task(self._fetch_once())
        if self._fetching is not None:
            await asyncio.shield(self._fetching)
        if self._last is None:
            raise KeysUnavailableError("the keys that tokens are checked by could not be fetched yet")

    async def _fetch_once(self) -> None:
        try:
            raw = await self._fetch()
            if raw != self._last:
                self._keys = read_jwks(raw)
                self._last = raw
                self._documents += 1
                log.info(names.KEYS_FETCHED, extra={"keys": len(self._keys)})
            self._metrics.count(names.KEY_FETCHES_TOTAL, outcome="fetched")
        except FetchError as error:
            self._metrics.count(names.KEY_FETCHES_TOTAL, outcome="failed")
            log.warning(names.KEYS_NOT_FETCHED, extra={"reason": str(error)})
        finally:
            self._fetching = None


def read_jwks(raw: bytes) -> Mapping[str | None, VerificationKey]:
    """The usable keys of a set by `kid`; of several with one `kid` the first. Entries of other kinds are
    passed over. Raises FetchError when it is no set, has more than 50 entries, or none that is of use.
    """
    try:
        document = check(raw)
    except DocumentError as error:
        raise FetchError(f"the answer {error}") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise FetchError("the answer is no key set")
    if len(entries) > MAX_KEYS:
        raise FetchError(f"the set has {len(entries)} keys, more than {MAX_KEYS}")
    keys: dict[str | None, VerificationKey] = {}
    for kid, key in filter(None, map(key_of_jwk, entries)):
        if kid is None or len(kid) <= MAX_KID_CHARS:
            keys.setdefault(kid, key)
    if not keys:
        raise FetchError("the set has no RSA or P-256 key for signatures")
    return keys
