"""Waiting for something to become true in another process, which sends no event."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    look: Callable[[], Awaitable[T]],
    until: Callable[[T], bool] = bool,
    *,
    within_s: float = 10.0,
    every_s: float = 0.02,
) -> T:
    """Look again and again until it is as wanted; fails with what was seen last."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        seen = await look()
        if until(seen):
            return seen
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_s} s; last seen: {seen!r}")
        await asyncio.sleep(every_s)
