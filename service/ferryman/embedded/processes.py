"""A server process with a guard that ends it when the process that started both is gone."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ferryman.embedded.accounts import Account, clean_environment, identity

StopMode = Literal["fast", "immediate", "kill"]

POLL_SECONDS = 0.02
_GUARD_SECONDS = 5.0

# A parent-death signal would not do: the kernel drops it when the child changes its user, and it fires when
# the thread that started the child ends, as those of asyncio.to_thread do. A pipe knows only processes: its
# reading end sees the end of file when the last holder of the writing end, our process, is gone. The server
# is in the guard's process group, so there is no moment in which it runs unguarded. The guard itself outlives
# the first signal, and ends a server that does not heed it.
_GUARD_SCRIPT = """
trap '' HUP INT QUIT TERM
if read -r released; then exit 0; fi
kill -s "$1" 0
sleep 7
kill -s KILL 0
"""


class ServerProcess:
    """One run of a server: started by the constructor, which returns before the server is ready.

    Standard output and error go to `log`. `last_signal` is what the guard sends when our process has died.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        account: Account | None,
        last_signal: Literal["QUIT", "KILL"],
    ) -> None:
        self._guard = _start_guard(last_signal)
        try:
            self._server = _start_server(command, log, account, group=self._guard.pid)
        except BaseException:
            self._release_guard()
            raise

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._server.pid

    def is_running(self) -> bool:
        """Whether the server has not ended."""
        return self._server.poll() is None

    def wait(self, timeout: float) -> bool:
        """Waits for the server's end; False when `timeout` seconds pass first."""
        try:
            self._server.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, signals: Sequence[signal.Signals], patience: float) -> None:
        """Sends one signal after the other until the server ends, `patience` seconds apart; then kills it."""
        for number in signals:
            self._server.send_signal(number)
            if self.wait(patience):
                break
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the server and its children, and waits until all are gone."""
        children = _children(self.pid) if self.is_running() else []
        self._server.kill()
        self._server.wait()
        for child in children:
            _kill_quietly(child)
        # An orphan holds on to the server's shared memory, and the next start would refuse.
        wait_until(lambda: not any(_is_alive(child) for child in children), timeout=10.0)
        self._release_guard()

    def _release_guard(self) -> None:
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):  # somebody else ended it
            self._guard.stdin.write(b"released\n")
        self._guard.stdin.close()
        try:
            self._guard.wait(_GUARD_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()


def wait_until(reached: Callable[[], bool], timeout: float) -> bool:
    """Polls until `reached()` is true; False when `timeout` seconds pass first."""
    deadline = time.monotonic() + timeout
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _start_guard(last_signal: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _GUARD_SCRIPT, "ferryman-guard", last_signal],
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        process_group=0,
    )


def _start_server(
    command: Sequence[str | Path], log: Path, account: Account | None, *, group: int
) -> subprocess.Popen[bytes]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            process_group=group,
            **identity(account),
        )
    finally:
        os.close(descriptor)


def _children(pid: int) -> list[int]:
    """The direct children of a process, where the kernel tells (Linux); elsewhere they end by themselves."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in listing.read_text().split()]
        except OSError:
            continue  # the thread ended meanwhile
    return found


def _kill_quietly(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it had ended already
        os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"
