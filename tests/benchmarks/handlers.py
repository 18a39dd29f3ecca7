"""Ferryman's handlers for the benchmark: `ferryman worker --handlers tests.benchmarks.handlers`."""

from __future__ import annotations

import asyncio
from typing import Any

from ferryman import JobContext, Registry
from tests.benchmarks.beacon import Lamp
from tests.benchmarks.payload import key_of

jobs = Registry()
_lamp = Lamp()


@jobs.handler("noop")
async def noop(ctx: JobContext, **payload: Any) -> None:
    """Nothing."""


@jobs.handler("flash")
async def flash(ctx: JobContext, **payload: Any) -> None:
    """Says that it started."""
    _lamp.flash(key_of(payload))


@jobs.handler("hang")
async def hang(ctx: JobContext, **payload: Any) -> None:
    """Says that it started and lasts until its worker ends."""
    _lamp.flash(key_of(payload))
    await asyncio.Event().wait()
