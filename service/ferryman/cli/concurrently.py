"""Several things at once, with the plain error of the first that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


async def both(first: Coroutine[None, None, A], second: Coroutine[None, None, B]) -> tuple[A, B]:
    """Both results. When one fails, the other is cancelled and waited for; the error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            left, right = tasks.create_task(first), tasks.create_task(second)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return left.result(), right.result()
