"""Handlers that leave evidence: each start and end is a line in a file that only grows."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from ferryman import JobContext, PermanentError, Registry, Snooze, TransientError

jobs = Registry()
_EFFECTS = os.open(Path(os.environ["FERRYMAN_TEST_EFFECTS"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _note(ctx: JobContext, event: str) -> None:
    line = {
        "t": time.time(),
        "job": str(ctx.job_id),
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "event": event,
    }
    os.write(_EFFECTS, json.dumps(line).encode() + b"\n")


@jobs.handler("quick")
async def quick(ctx: JobContext, **rest: Any) -> dict[str, Any]:
    _note(ctx, "start")
    _note(ctx, "end")
    return {}


@jobs.handler("slow")
async def slow(ctx: JobContext, ms: int) -> dict[str, Any]:
    _note(ctx, "start")
    await asyncio.sleep(ms / 1000)
    _note(ctx, "end")
    return {"ms": ms}


@jobs.handler("hangs_once")
async def hangs_once(ctx: JobContext) -> dict[str, Any]:
    """Its first attempt lasts until somebody kills the worker."""
    _note(ctx, "start")
    if ctx.attempt == 1:
        await asyncio.Event().wait()
    _note(ctx, "end")
    return {}


@jobs.handler("flaky", max_retries=3, retry_delay_ms=100)
async def flaky(ctx: JobContext, fails: int) -> dict[str, Any]:
    """Fails its first attempts; a lost worker adds attempts, so it counts its own failures by cursor."""
    _note(ctx, "start")
    failed = ctx.cursor or 0
    if failed < fails:
        await ctx.save_cursor(failed + 1)
        raise TransientError(f"failure {failed + 1} of {fails}")
    _note(ctx, "end")
    return {}


@jobs.handler("doomed")
async def doomed(ctx: JobContext) -> dict[str, Any]:
    _note(ctx, "start")
    raise PermanentError("asked for")


@jobs.handler("sleepy")
async def sleepy(ctx: JobContext, ms: int) -> dict[str, Any]:
    """Snoozes once, then ends."""
    _note(ctx, "start")
    if ctx.cursor is None:
        await ctx.save_cursor(1)
        raise Snooze(ms)
    _note(ctx, "end")
    return {}


@jobs.handler("killer")
async def killer(ctx: JobContext) -> dict[str, Any]:
    """Takes its worker down."""
    _note(ctx, "start")
    os.kill(os.getpid(), 9)
    return {}


@jobs.handler("thread")
def thread(ctx: JobContext, ms: int) -> dict[str, Any]:
    """Holds the interpreter for a while, as a CPU-bound handler does."""
    _note(ctx, "start")
    until = time.monotonic() + ms / 1000
    while time.monotonic() < until:
        pass
    _note(ctx, "end")
    return {}


@jobs.handler("blocking")
async def blocking(ctx: JobContext, ms: int) -> dict[str, Any]:
    """Blocks the event loop."""
    _note(ctx, "start")
    until = time.monotonic() + ms / 1000
    while time.monotonic() < until:
        pass
    _note(ctx, "end")
    return {}
