"""Handlers for `ferryman demo` and `ferryman dev`: small, honest work, a failure that passes, one that stays.

chat, memory and notification take what applications of those kinds would send; `report` shows progress and
goes on where it was stopped; `flaky` fails its first attempts; `doomed` can never succeed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any

from msgspec import Meta

from ferryman import JobContext, PermanentError, Registry, TransientError

jobs = Registry()

Count = Annotated[int, Meta(ge=0, le=1_000)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]


@jobs.handler("chat")
async def chat(ctx: JobContext, message: str, **rest: Any) -> dict[str, Any]:
    """Answers a message."""
    await ctx.progress(50, "thinking")
    return {"reply": message.upper(), "words": len(message.split())}


@jobs.handler("memory")
async def memory(ctx: JobContext, message: str = "", **rest: Any) -> dict[str, Any]:
    """What is worth remembering of a text: its most frequent longer words."""
    words = Counter(word.strip(".,;:!?").lower() for word in message.split())
    return {"remembered": [word for word, _ in words.most_common() if len(word) > 3][:5]}


@jobs.handler("notification")
def notification(ctx: JobContext, message: str = "", to: str = "nobody", **rest: Any) -> dict[str, Any]:
    """Renders a notification, in a thread, as a library that blocks would."""
    return {"to": to, "text": f"Hello {to}: {message}".strip(), "key": ctx.idempotency_key}


@jobs.handler("report")
async def report(ctx: JobContext, steps: Count = 10, step_ms: Milliseconds = 200) -> dict[str, Any]:
    """Works in steps and keeps its place, so that the next attempt goes on from there."""
    done = int(ctx.cursor or 0)
    for step in range(done + 1, steps + 1):
        await asyncio.sleep(step_ms / 1_000)
        await ctx.save_cursor(step)
        await ctx.progress(100 * step / steps, f"step {step} of {steps}")
    return {"steps": steps, "resumed_at": done}


@jobs.handler("flaky", max_retries=5, retry_delay_ms=300)
async def flaky(ctx: JobContext, failures: Count = 1, message: str = "") -> dict[str, Any]:
    """Fails its first attempts as a busy upstream would, then passes."""
    if ctx.attempt <= failures:
        raise TransientError("upstream answered 503", details={"attempt": ctx.attempt})
    return {"attempts": ctx.attempt, "message": message}


@jobs.handler("doomed")
async def doomed(ctx: JobContext, template: str = "none", **rest: Any) -> dict[str, Any]:
    """Cannot succeed, however often it is tried."""
    raise PermanentError(f"there is no template {template!r}")
