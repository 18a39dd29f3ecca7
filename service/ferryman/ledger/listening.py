"""Hearing of jobs that other applications have committed: LISTEN, over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from ferryman.ledger.failures import is_foreign
from ferryman.telemetry import names

ARRIVALS: Final = "ferryman_arrivals"
_CONNECT_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 1.0
# A server that has gone without a word is noticed by this question.
_ASK_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


async def listen(url: str, heard: Callable[[], None], stop: asyncio.Event) -> None:
    """Call `heard` when jobs have arrived, and whenever a connection is new, since nothing was heard before.

    Needs a direct connection: a pooler in transaction mode hears nothing. One that is lost is made again.
    """
    while not stop.is_set():
        try:
            await _listen_once(url, heard, stop)
        except Exception as error:
            if not is_foreign(error):
                raise
            log.debug(names.LEDGER_AWAY, extra={"reason": type(error).__name__})
            await _first_of(stop, seconds=_AGAIN_SECONDS)


async def _listen_once(url: str, heard: Callable[[], None], stop: asyncio.Event) -> None:
    lost = asyncio.Event()
    connection = await asyncpg.connect(
        url,
        timeout=_CONNECT_SECONDS,
        command_timeout=_ANSWER_SECONDS,
        server_settings={"application_name": "ferryman-listener"},
    )
    try:
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(ARRIVALS, lambda *_: heard())
        heard()
        while not await _first_of(stop, lost, seconds=_ASK_SECONDS):
            await connection.fetchval("SELECT 1")
    finally:
        await _close(connection)


async def _close(connection: Any) -> None:
    with contextlib.suppress(Exception):
        await connection.close(timeout=_ANSWER_SECONDS)


async def _first_of(*events: asyncio.Event, seconds: float) -> bool:
    """Whether one of the events was set within so many seconds."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)
    finally:
        for wait in waits:
            wait.cancel()
