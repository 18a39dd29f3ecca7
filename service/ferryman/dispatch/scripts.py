"""The Lua scripts: one a file, `queue.lua` in front of each that is about a queue."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from ferryman.dispatch import keys

AT_ONCE: Final = 100
"""Ids a call: 250 would hold up Redis for 3 ms."""

_FOLDER: Final = files("ferryman.dispatch") / "lua"
_SHARED: Final = (_FOLDER / "queue.lua").read_text("utf-8")

Argument = bytes | str | int | float


class Script:
    """One script, run by its hash; a server that does not know it (new, flushed) gets the text."""

    def __init__(self, name: str, *, of_queue: bool = True) -> None:
        text = (_FOLDER / f"{name}.lua").read_text("utf-8")
        self._text = f"{_SHARED}\n{text}" if of_queue else text
        self._hash = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Redis, queue: str, *arguments: Argument) -> Any:
        """The script's answer, in bytes and integers. Raises what redis-py raises."""
        return await self.run_on(client, [keys.prefix(queue)], *arguments)

    async def run_on(self, client: Redis, names: Sequence[str], *arguments: Argument) -> Any:
        """The same for a script with keys of its own."""
        given = cast("tuple[str, ...]", (*names, *arguments))
        try:
            return await cast("Awaitable[Any]", client.evalsha(self._hash, len(names), *given))
        except NoScriptError:
            return await cast("Awaitable[Any]", client.eval(self._text, len(names), *given))


ADMIT: Final = Script("admit")
BEAT: Final = Script("beat")
BEGIN: Final = Script("begin")
CONFIGURE: Final = Script("configure")
DROP: Final = Script("drop")
EXPLAIN: Final = Script("explain")
FORGET: Final = Script("forget")
MISSING: Final = Script("missing")
PUSH: Final = Script("push")
RATE: Final = Script("rate", of_queue=False)
REAP: Final = Script("reap")
STATS: Final = Script("stats")
STEP: Final = Script("step")
STOP: Final = Script("stop")
WARM: Final = Script("warm")
