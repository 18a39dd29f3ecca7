"""Waiting longer and longer while something is away."""

from __future__ import annotations

import asyncio
from typing import Final

_FACTOR: Final = 2.0


class Backoff:
    """Pauses that double from `first_s` to `longest_s`."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """The next pause in seconds; the one after it is longer."""
        pause_s, self._next_s = self._next_s, min(self._longest_s, self._next_s * _FACTOR)
        return pause_s

    async def pause(self) -> None:
        """Wait for the next pause."""
        await asyncio.sleep(self.next_s())

    def reset(self) -> None:
        """It is back: start over."""
        self._next_s = self._first_s
