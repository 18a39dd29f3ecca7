"""A whole pipeline of real processes that a test may break: servers, APIs and workers on loopback."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import jwt

from ferryman.embedded import EmbeddedPostgres, EmbeddedRedis
from tests.support.servers import START_SECONDS, make_postgres, make_redis
from tests.support.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Process:
    """One process, `ferryman` unless `module` says otherwise. Its output goes to a file, so that a dead
    reader never blocks it.
    """

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log: Path
    handle: subprocess.Popen[bytes] | None = None
    module: str = "ferryman.cli.main"

    def start(self, **extra: str) -> None:
        """Start it, with further variables."""
        with self.log.open("ab") as output:
            self.handle = subprocess.Popen(
                [sys.executable, "-m", self.module, *self.arguments],
                env={**self.environment, **extra},
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def alive(self) -> bool:
        return self.handle is not None and self.handle.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal if it lives."""
        if self.handle is not None and self.alive:
            self.handle.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.send(signal.SIGKILL)
        if self.handle is not None:
            self.handle.wait(timeout=10)

    async def ended(self, within_s: float) -> int:
        """Wait for the process to end by itself; its exit code (negative: the signal)."""
        assert self.handle is not None
        return await asyncio.wait_for(asyncio.to_thread(self.handle.wait), within_s)


@dataclass
class Api(Process):
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Stack:
    """Servers and processes of one test. Everything lives in one folder and ends with the context."""

    folder: Path
    postgres: EmbeddedPostgres
    redis: EmbeddedRedis
    secret: str = field(default_factory=lambda: secrets.token_hex(32))
    processes: list[Process] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FERRYMAN_")}
        return inherited | {
            "FERRYMAN_DATABASE_URL": self.postgres.service_url,
            "FERRYMAN_OWNER_DATABASE_URL": self.postgres.owner_url,
            "FERRYMAN_REDIS_URL": self.redis.url,
            "FERRYMAN_JWT_SECRET": self.secret,
            "FERRYMAN_LOG_FORMAT": "json",
            "PYTHONPATH": str(REPOSITORY),
        }

    def token(self, *roles: str, tenant: str = "acme", user: int = 1) -> str:
        claims = {
            "tenant_id": tenant,
            "user_id": user,
            "roles": list(roles or ("user",)),
            "exp": 4_000_000_000,
        }
        return jwt.encode(claims, self.secret, "HS256")

    def run(self, *arguments: str) -> str:
        """Run a command to its end; its standard output."""
        done = subprocess.run(
            [sys.executable, "-m", "ferryman.cli.main", *arguments],
            env=self.environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"ferryman {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def api(self, **environment: str) -> Api:
        """Start one API on a free port."""
        port = free_port()
        arguments = ["api", "--host", "127.0.0.1", "--port", str(port)]
        api = Api(f"api-{port}", arguments, self.environment, self.folder / f"api-{port}.log", port=port)
        self.processes.append(api)
        api.start(**environment)
        return api

    def worker(self, *arguments: str, handlers: str = "tests.chaos.handlers", **environment: str) -> Process:
        """Start one worker."""
        name = f"worker-{secrets.token_hex(3)}"
        command = ["worker", "--handlers", handlers, *arguments]
        extra = self.environment | {"FERRYMAN_TEST_EFFECTS": str(self.folder / "effects.jsonl")}
        worker = Process(name, command, extra, self.folder / f"{name}.log")
        self.processes.append(worker)
        worker.start(**environment)
        return worker

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection that sees everything."""
        return await asyncpg.connect(self.postgres.owner_url, timeout=10)

    def end_processes(self) -> None:
        """End every API and worker, the stopped ones too; the servers stay."""
        for process in self.processes:
            process.send(signal.SIGCONT)
            process.kill()
        self.processes.clear()

    def close(self) -> None:
        """End everything that was started here."""
        self.end_processes()
        self.postgres.close()
        self.redis.close()

    def logs(self) -> str:
        """The last lines of every process, for a failure's report."""
        tails = []
        for process in self.processes:
            text = process.log.read_text(errors="replace") if process.log.exists() else ""
            tails.append(f"--- {process.name}\n" + "\n".join(text.splitlines()[-30:]))
        return "\n".join(tails)


@asynccontextmanager
async def running_stack() -> AsyncIterator[Stack]:
    """Servers started and migrated. APIs and workers are the test's to start. Logs are kept on failure."""
    folder = Path(tempfile.mkdtemp(prefix="ferryman-stack-"))
    folder.chmod(0o755)
    stack = Stack(folder, make_postgres(), make_redis())
    try:
        await asyncio.to_thread(stack.postgres.start, START_SECONDS)
        await asyncio.to_thread(stack.redis.start, START_SECONDS)
        await asyncio.to_thread(stack.run, "migrate")
        yield stack
    except BaseException:
        print(stack.logs())
        raise
    finally:
        await asyncio.to_thread(stack.close)
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_ready(session: aiohttp.ClientSession, api: Api, within_s: float = 30) -> None:
    """Wait until the API says that it is ready."""

    async def ready() -> bool:
        assert api.alive, f"{api.name} ended: {api.log.read_text()[-2000:]}"
        try:
            async with session.get(f"{api.url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(ready, within_s=within_s)


async def call(
    session: aiohttp.ClientSession, method: str, url: str, token: str, **options: Any
) -> tuple[int, Mapping[str, Any]]:
    """One request; status and JSON body."""
    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    async with session.request(method, url, headers=headers, **options) as answer:
        return answer.status, await answer.json(content_type=None)
