"""How a handler in another process says the instant at which it started, at the cost of one datagram.

The instant is `time.time_ns()` of the one machine that everything runs on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

VARIABLE: Final = "FERRYMAN_BENCH_BEACON"


class Start(NamedTuple):
    """A handler started: for which key, in which process, when."""

    key: str
    pid: int
    at_ns: int


class Lamp:
    """The sender's end, in a worker. Does nothing where nobody listens."""

    def __init__(self) -> None:
        self._address = os.environ.get(VARIABLE)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None

    def flash(self, key: str) -> None:
        """Say that the handler of `key` starts now."""
        if self._socket is not None and self._address is not None:
            self._socket.sendto(f"{time.time_ns()} {os.getpid()} {key}".encode(), self._address)


class Watch(asyncio.DatagramProtocol):
    """The receiver's end, in the process that measures."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self._starts: asyncio.Queue[Start] = asyncio.Queue()

    def datagram_received(self, data: bytes, _: object) -> None:
        at_ns, pid, key = data.decode().split(" ", 2)
        self._starts.put_nowait(Start(key, int(pid), int(at_ns)))

    async def next(self, within_s: float) -> Start:
        """The next start. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            return await self._starts.get()


@contextmanager
def _bound(address: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.setblocking(False)
        receiver.bind(str(address))
        try:
            yield receiver
        finally:
            address.unlink(missing_ok=True)


class Lookout:
    """`async with Lookout(path) as watch`: everything that flashes at `path` meanwhile."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._bound = _bound(address)
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Watch:
        receiver = self._bound.__enter__()
        loop = asyncio.get_running_loop()
        self._transport, watch = await loop.create_datagram_endpoint(
            lambda: Watch(self._address), sock=receiver
        )
        return watch

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()
        self._bound.__exit__(None, None, None)
