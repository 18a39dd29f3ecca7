"""Keeps processes running: starts them again when they end, later each time they do not last."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from ferryman.embedded import EmbeddedPostgres, EmbeddedRedis

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
# A process that ran this long starts again without a pause.
STEADY_SECONDS: Final = 10.0
_SERVER_LOOK_SECONDS: Final = 0.5


class Unit(Protocol):
    """Something that runs as a process of its own."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int: ...

    async def start(self) -> None:
        """Start it, or start it again after its end."""

    async def ended(self) -> str:
        """Wait until it has ended; how, in words."""

    async def stop(self, patience: float) -> None:
        """End it in good order, by force after `patience` seconds."""

    def kill(self) -> None:
        """Let a `stop` under way come to its end now."""


class ServerUnit:
    """An embedded server."""

    def __init__(self, name: str, server: EmbeddedPostgres | EmbeddedRedis) -> None:
        self.name = name
        self._server = server

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._server.pid

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        await _in_thread(self._server.start)

    async def ended(self) -> str:
        """Wait until the server has ended."""
        while not await _in_thread(lambda: self._server.wait(_SERVER_LOOK_SECONDS)):
            pass
        return "has ended"

    async def stop(self, patience: float) -> None:
        """Stop the server and remove what is temporary."""
        await _in_thread(self._server.close)

    def kill(self) -> None:
        """Servers stop fast by themselves."""


class CommandUnit:
    """A `ferryman` command as a child. It ends with this process, however this one ends."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path | None
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The child's process id."""
        assert self._process is not None, f"{self.name} has not been started"
        return self._process.pid

    async def start(self) -> None:
        """Start the child; whether it is ready is another question."""
        with _output(self._log) as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ferryman.cli.main", *self._arguments, "--end-with-stdin"),
                env=self._environment,
                # The child stops when this pipe closes, which it does with us. In a process group of its own
                # it does not hear Ctrl+C: the order of stopping is ours.
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                process_group=0,
            )

    async def ended(self) -> str:
        """Wait until the child has ended."""
        assert self._process is not None
        code = await self._process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    async def stop(self, patience: float) -> None:
        """SIGTERM, and SIGKILL after `patience` seconds."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """SIGKILL, for people in a hurry."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


class Supervisor:
    """Starts units in order, keeps them running, stops them in the opposite order.

    `changed` is called after a unit got another process id; `tell` with a line for people. `ends` counts how
    often a unit ended by itself.
    """

    def __init__(self, *, changed: Callable[[], None], tell: Callable[[str], None]) -> None:
        self._changed = changed
        self._tell = tell
        self._units: list[tuple[Unit, asyncio.Task[None]]] = []
        self.ends = 0

    async def add(self, unit: Unit) -> None:
        """Start a unit and look after it from now on."""
        await unit.start()
        self._units.append((unit, asyncio.create_task(self._keep(unit), name=unit.name)))

    async def stop(self, patience: float) -> None:
        """Stop all units, the youngest first; neighbours of one kind (workers) side by side."""
        for _, keeper in self._units:
            keeper.cancel()
        await asyncio.gather(*(keeper for _, keeper in self._units), return_exceptions=True)
        units = [unit for unit, _ in reversed(self._units)]
        for _, batch in itertools.groupby(units, key=_kind):
            await asyncio.gather(*(unit.stop(patience) for unit in batch))
        self._units.clear()

    def kill(self) -> None:
        """End at once what `stop` still waits for."""
        for unit, _ in self._units:
            unit.kill()

    async def _keep(self, unit: Unit) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            how = await unit.ended()
            self.ends += 1
            self._tell(f"{unit.name} {how}; starting it again")
            if time.monotonic() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            pause = await self._start_again(unit, pause)
            self._changed()

    async def _start_again(self, unit: Unit, pause: float) -> float:
        """Start until it works. Answers the pause before the next time."""
        while True:
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
            try:
                await unit.start()
            except Exception as error:
                # Whatever hinders it, giving up would leave the stack without this part.
                self._tell(f"{unit.name} did not start: {error}")
            else:
                return pause


def _kind(unit: Unit) -> str:
    return unit.name.partition(" ")[0]


@contextlib.contextmanager
def _output(log: Path | None) -> Iterator[int]:
    """Where a child writes to: its log file, or our stderr."""
    if log is None:
        yield sys.stderr.fileno()
        return
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in a thread and, when cancelled, wait for it all the same: a server takes one caller at a time."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
