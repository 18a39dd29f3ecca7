"""How commands that run on are told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stop_event() -> asyncio.Event:
    """An event of the running loop that SIGINT and SIGTERM set."""
    import asyncio

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    return stop


class Interruption:
    """What a second signal does: nothing, until `hurry` is set."""

    def __init__(self) -> None:
        self.signals = 0
        self.hurry: Callable[[], None] = lambda: None


@contextmanager
def cancelled_by_signals() -> Iterator[Interruption]:
    """The first SIGINT or SIGTERM cancels the current task, and the block then ends without an error; a
    further one calls what is set as `hurry`.
    """
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    interruption = Interruption()

    def on_signal() -> None:
        interruption.signals += 1
        if interruption.signals == 1:
            task.cancel()
        else:
            interruption.hurry()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        yield interruption
    except asyncio.CancelledError:
        if not interruption.signals:
            raise
        task.uncancel()
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)


def stop_at_end_of_stdin(grace_seconds: float) -> None:
    """Treat the end of stdin like SIGTERM, and like SIGKILL once the grace and a little more has passed.

    Whoever started us holds the other end of the pipe, so we do not outlive them, however they end.
    """
    threading.Thread(target=_watch_stdin, args=(grace_seconds,), name="end-of-stdin", daemon=True).start()


def _watch_stdin(grace_seconds: float) -> None:
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_seconds + 5.0)
    os.kill(os.getpid(), signal.SIGKILL)
