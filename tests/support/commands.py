"""The command line as people use it: as a process, with its own environment."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.servers import Database
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "a-secret-for-tests-that-is-long-enough"
READY_SECONDS = 60.0


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without any setting of Ferryman, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FERRYMAN_")}
    paths = f"{REPOSITORY / 'service'}{os.pathsep}{REPOSITORY}"
    return kept | {"PYTHONPATH": paths, "FERRYMAN_API_DRAIN_SECONDS": "0"} | more


def installation(database: Database, redis_url: str) -> dict[str, str]:
    """The settings of an installation on these servers."""
    return {
        "FERRYMAN_DATABASE_URL": database.service_url,
        "FERRYMAN_OWNER_DATABASE_URL": database.owner_url,
        "FERRYMAN_REDIS_URL": redis_url,
        "FERRYMAN_JWT_SECRET": SECRET,
    }


async def ferryman(
    *words: str, environment: Mapping[str, str], within_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "ferryman.cli.main", *words],
        env=environment,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
    )


@dataclass
class Running:
    """A command that runs on. Its output goes to files, so that a dead reader never blocks it."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return (self.folder / "out").read_text() + (self.folder / "err").read_text()

    async def ended(self, within_s: float = 30.0) -> int:
        """Wait for its end; its exit code."""
        try:
            return await asyncio.to_thread(self.process.wait, within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {within_s} s:\n{self.output}") from None

    async def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = 30.0) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        return await self.ended(within_s)


@asynccontextmanager
async def running(*words: str, environment: Mapping[str, str]) -> AsyncIterator[Running]:
    """A command that runs for the block."""
    with tempfile.TemporaryDirectory(prefix="ferryman-test-") as name:
        folder = Path(name)
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "ferryman.cli.main", *words],
                env=environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        command = Running(process, folder)
        try:
            yield command
        except BaseException:
            print(command.output)
            raise
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, 40)
                finally:
                    process.kill()
                    process.wait()


@dataclass
class Dev:
    """A `ferryman dev` that is up."""

    command: Running
    ready_file: Path

    @property
    def told(self) -> dict[str, Any]:
        """The ready file as it is now."""
        content: dict[str, Any] = json.loads(self.ready_file.read_text())
        return content

    @property
    def environment(self) -> dict[str, str]:
        """For commands that use it."""
        return clean_environment(FERRYMAN_API_URL=self.told["url"], FERRYMAN_TOKEN=self.told["token"])


@asynccontextmanager
async def running_dev(*words: str, **environment: str) -> AsyncIterator[Dev]:
    """`ferryman dev` on free ports for the block."""
    with tempfile.TemporaryDirectory(prefix="ferryman-test-") as folder:
        ready = Path(folder) / "ready.json"
        arguments = ["dev", "--port", "0", "--ready-file", str(ready), *words]
        async with running(*arguments, environment=clean_environment(**environment)) as command:
            await until_ready(command, ready)
            yield Dev(command, ready)


async def until_ready(command: Running, ready: Path) -> None:
    """Wait for the ready file; fails with what the command said if it ends instead."""

    async def look() -> bool:
        assert command.process.poll() is None, command.output
        return ready.exists()

    await eventually(look, within_s=READY_SECONDS)


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
