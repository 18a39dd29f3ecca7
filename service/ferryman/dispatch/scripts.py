"""The Lua scripts: one a file, `queue.lua` in front of each."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
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

    def __init__(self, name: str) -> None:
        text = (_FOLDER / f"{name}.lua").read_text("utf-8")
        self._text = f"{_SHARED}\n{text}"
        self._hash = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Redis, queue: str, *arguments: Argument) -> Any:
        """The script's answer, in bytes and integers. Raises what redis-py raises."""
        key = keys.prefix(queue)
        given = cast("tuple[str, ...]", arguments)
        try:
            return await cast("Awaitable[Any]", client.evalsha(self._hash, 1, key, *given))
        except NoScriptError:
            return await cast("Awaitable[Any]", client.eval(self._text, 1, key, *given))


ADMIT: Final = Script("admit")
BEAT: Final = Script("beat")
BEGIN: Final = Script("begin")
CONFIGURE: Final = Script("configure")
DROP: Final = Script("drop")
FORGET: Final = Script("forget")
MISSING: Final = Script("missing")
PUSH: Final = Script("push")
REAP: Final = Script("reap")
STATS: Final = Script("stats")
STEP: Final = Script("step")
STOP: Final = Script("stop")
WARM: Final = Script("warm")
