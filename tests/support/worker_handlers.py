"""Handlers for tests that run a worker as a process of its own."""

from __future__ import annotations

import asyncio
import time

from ferryman import JobContext, Registry

jobs = Registry()


@jobs.handler("quick")
async def quick(ctx: JobContext) -> None:
    """Ends at once."""


@jobs.handler("sleep")
async def sleep(ctx: JobContext, ms: int) -> None:
    """Takes a while, and says when it has begun."""
    await ctx.progress(0, "asleep")
    await asyncio.sleep(ms / 1_000)


@jobs.handler("stubborn")
def stubborn(ctx: JobContext) -> None:
    """Does not listen when it is told to stop."""
    time.sleep(120)
