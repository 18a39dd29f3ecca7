"""Live events as an async iterator that goes on after every cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, Final

from msgspec import Struct

from ferryman.client.failures import BusyError, UnavailableError, UnreachableError
from ferryman.client.transport import Params, Transport

_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
# The server sends a sign of life every 15 s.
_SILENCE_SECONDS: Final = 40.0


class Event(Struct, frozen=True, kw_only=True):
    """One frame: its kind, its fields as they came, and the id to go on behind, if it has one."""

    kind: str
    data: dict[str, Any]
    id: str | None = None


async def follow(transport: Transport, params: Params, after: str | None) -> AsyncGenerator[Event, None]:
    """Events from now on, or behind the event `after`, until the iterator is closed. A connection that is cut
    is made again, going on behind the last event. Raises the refusals of `ferryman.client.failures`.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        headers = {"Last-Event-ID": after} if after else {}
        try:
            async for event in _connection(transport, params, headers):
                pause = _FIRST_PAUSE_SECONDS
                after = event.id or after
                yield event
        except (UnreachableError, UnavailableError, BusyError):
            pass  # the answer to all three is to come again later
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)


async def _connection(
    transport: Transport, params: Params, headers: dict[str, str]
) -> AsyncGenerator[Event, None]:
    """The events of one connection, to its end."""
    fields: dict[str, str] = {}
    async for line in transport.lines(
        "/api/events", params=params, headers=headers, silence=_SILENCE_SECONDS
    ):
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            yield Event(kind=fields.get("event", ""), data=json.loads(fields["data"]), id=fields.get("id"))
        fields = {}
