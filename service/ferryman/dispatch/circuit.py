"""A circuit breaker: while Redis is away, calls fail at once instead of each waiting for its timeout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ferryman.dispatch.failures import RedisAwayError

PAUSE_S: Final = 0.5


class Circuit:
    """Open for `PAUSE_S` after a failure; then one call may try, and the others still fail until it has."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._closed = True
        self._retry_at = 0.0
        self._probing = False

    @property
    def is_closed(self) -> bool:
        """Whether the last call that ended found Redis well."""
        return self._closed

    def check(self) -> None:
        """Raises RedisAwayError if a call has no chance now."""
        if not self._closed and (self._probing or self._monotonic() < self._retry_at):
            raise RedisAwayError("Redis was away a moment ago")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one call: refuses it while the circuit is open, and learns from how it ends."""
        self.check()
        is_probe = not self._closed
        self._probing = self._probing or is_probe
        try:
            yield
        except RedisAwayError:
            self._closed = False
            self._retry_at = self._monotonic() + PAUSE_S
            raise
        else:
            self._closed = True
        finally:
            if is_probe:
                self._probing = False
