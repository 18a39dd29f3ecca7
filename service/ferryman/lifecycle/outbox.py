"""What waits to be sent to one reader of events: bounded, and thinned out when too much happens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from ferryman.core.events import Mark

CAPACITY: Final = 1_000
FRAMES_PER_WINDOW: Final = 100
WINDOW_SECONDS: Final = 1.0


class Frame(Struct, frozen=True, kw_only=True):
    """One message in its final form. `mark`: behind which a reader goes on that has had it."""

    kind: str
    text: str
    mark: Mark | None = None
    is_of_job: bool = False


class Outbox:
    """Frames of one connection. Closed with a reason when the reader falls behind, or from outside.

    `thinned`: above FRAMES_PER_WINDOW job frames a second the rest of the second becomes one frame, which
    `thin` makes of their number and the last mark.
    """

    def __init__(self, *, thin: Callable[[int, Mark | None], Frame], thinned: bool) -> None:
        self._thin = thin
        self._thinned = thinned
        self._loop = asyncio.get_running_loop()
        self._frames: deque[Frame] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._window_ends = float("-inf")
        self._passed = 0
        self._left_out = 0
        self._left_out_mark: Mark | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.reason: str | None = None
        self.closed = asyncio.Event()

    def offer(self, frame: Frame) -> None:
        """Add a frame. When there is no room the outbox closes as `slow`."""
        if self.reason is None and not (frame.is_of_job and self._thinned and self._is_left_out(frame)):
            self._append(frame)

    async def put(self, frame: Frame) -> None:
        """As `offer`, once there is room: for what can wait."""
        await self._room.wait()
        self.offer(frame)

    async def take(self, *, at_most_s: float) -> list[Frame]:
        """Everything that waits, as soon as something does; nothing after `at_most_s`, or when closed."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._news.wait()
        except TimeoutError:
            return []
        frames = list(self._frames)
        self._frames.clear()
        self._room.set()
        if self.reason is None:
            self._news.clear()
        return frames

    def close(self, reason: str) -> None:
        """Take nothing more. The first reason stays."""
        if self.reason is None:
            self.reason = reason
            self.closed.set()
            self._news.set()
            self._room.set()
            if self._timer is not None:
                self._timer.cancel()

    def _append(self, frame: Frame) -> None:
        if len(self._frames) >= CAPACITY:
            self.close("slow")
            return
        self._frames.append(frame)
        self._news.set()
        if len(self._frames) >= CAPACITY // 2:
            self._room.clear()

    def _is_left_out(self, frame: Frame) -> bool:
        now = self._loop.time()
        if now >= self._window_ends:
            self._end_window()
            self._window_ends, self._passed = now + WINDOW_SECONDS, 0
        if self._passed < FRAMES_PER_WINDOW:
            self._passed += 1
            return False
        self._left_out += 1
        self._left_out_mark = frame.mark or self._left_out_mark
        if self._timer is None:
            self._timer = self._loop.call_at(self._window_ends, self._end_window)
        return True

    def _end_window(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._left_out and self.reason is None:
            frame = self._thin(self._left_out, self._left_out_mark)
            self._left_out, self._left_out_mark = 0, None
            self._append(frame)
