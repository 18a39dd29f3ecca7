"""The ground everybody is measured on: one PostgreSQL, one Redis, fresh databases for each, processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import redis.asyncio as aioredis
from rich.console import Console

from ferryman.embedded.cluster import SERVICE_ROLE, SUPERUSER
from ferryman.embedded.loopback import accepts
from ferryman.ledger.migrate import migrate
from tests.benchmarks import baselines, beacon, callers, http_load
from tests.benchmarks.peers import arq_peer, pgqueuer_peer
from tests.benchmarks.rest import Rest
from tests.benchmarks.sizes import CONCURRENCY, QUEUE, Sizes
from tests.support.servers import Database
from tests.support.stack import REPOSITORY, Process, Stack, free_port, until_ready
from tests.support.waiting import eventually

CHILD_SECONDS: Final = 600.0
OPEN_SECONDS: Final = 20.0
_ARQ_DATABASE: Final = 1
_FERRYMAN_TEMPLATE: Final = "bench_ferryman"
_PEER_TEMPLATE: Final = "bench_pgqueuer"


class ChildError(Exception):
    """A process of the benchmark failed."""


@dataclass
class BenchStack(Stack):
    """A stack on a database of the round instead of the server's first one."""

    database: Database | None = None

    @property
    def environment(self) -> dict[str, str]:
        if self.database is None:
            return super().environment
        return super().environment | {
            "FERRYMAN_DATABASE_URL": self.database.service_url,
            "FERRYMAN_OWNER_DATABASE_URL": self.database.owner_url,
        }


class Bench:
    """Everything a trial needs: fresh databases, processes that end with it, commands to run."""

    def __init__(self, stack: BenchStack, sizes: Sizes) -> None:
        self.stack = stack
        self.sizes = sizes
        self.peer_database: Database | None = None
        self._rounds = 0

    async def prepare(self) -> None:
        """Make the templates that the rounds copy, once."""
        ours, theirs = await self._database(_FERRYMAN_TEMPLATE), await self._database(_PEER_TEMPLATE)
        await migrate(ours.owner_url, service_login=SERVICE_ROLE)
        await pgqueuer_peer.install(theirs.owner_url)
        self._sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {SERVICE_ROLE};", theirs.name)
        self._sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {SERVICE_ROLE};", theirs.name)
        self._sql(f"GRANT CREATE ON SCHEMA public TO {SERVICE_ROLE};", theirs.name)

    @asynccontextmanager
    async def clean(self, progress: Console) -> AsyncIterator[None]:
        """Empty databases and an empty Redis for one trial; its processes end with it, and if it fails their
        last words go to `progress`.
        """
        self._rounds += 1
        self.stack.database = await self._database(f"bench_f{self._rounds}", _FERRYMAN_TEMPLATE)
        self.peer_database = await self._database(f"bench_p{self._rounds}", _PEER_TEMPLATE)
        await self.flush_redis()
        await asyncio.to_thread(self._sql, "CHECKPOINT;")
        try:
            yield
        except Exception:
            progress.print(self.stack.logs(), markup=False, highlight=False)
            raise
        finally:
            self.stack.end_processes()
            for database in (self.stack.database, self.peer_database):
                await asyncio.to_thread(self.stack.postgres.drop_database, database.name)

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Rest]:
        """A Ferryman API that is ready, with a queue that never fills."""
        api = self.stack.api()
        async with aiohttp.ClientSession() as session:
            await until_ready(session, api)
            rest = Rest(self.stack, api.port, session, self.http)
            await rest.put_queue()
            yield rest

    def worker(self, concurrency: int = CONCURRENCY, **environment: str) -> Process:
        """Start a Ferryman worker."""
        arguments = ("--queue", QUEUE, "--concurrency", str(concurrency))
        return self.stack.worker(*arguments, handlers="tests.benchmarks.handlers", **environment)

    def start(self, module: str, *arguments: str, **environment: str) -> Process:
        """Start a process of the benchmark that runs until it is killed or the trial ends."""
        name = f"{module}-{len(self.stack.processes)}"
        child = Process(
            name,
            list(arguments),
            {**self.child_environment, **environment},
            self.stack.folder / f"{name}.log",
            module=f"tests.benchmarks.{module}",
        )
        self.stack.processes.append(child)
        child.start()
        return child

    async def http(self, **plan: Any) -> dict[str, float]:
        """Run the HTTP client to its end; its figures."""
        return await self._run("http_load", http_load.document(http_load.Plan(**self._timed(plan))))

    async def call(self, **plan: Any) -> dict[str, float]:
        """Run callers without HTTP to their end; their figures."""
        return await self._run("callers", callers.document(callers.Plan(**self._timed(plan))))

    @asynccontextmanager
    async def baseline(self) -> AsyncIterator[int]:
        """The bare server; its port."""
        port = free_port()
        server = self.start("baselines", str(port))

        async def is_open() -> bool:
            assert server.alive, server.log.read_text()[-2000:]
            return accepts(port)

        await eventually(is_open, within_s=OPEN_SECONDS)
        yield port

    @property
    def arq_url(self) -> str:
        """The peers' database of Redis."""
        return self.stack.redis.url.rsplit("/", 1)[0] + f"/{_ARQ_DATABASE}"

    @property
    def child_environment(self) -> dict[str, str]:
        """What callers, peers and baselines find in their environment."""
        assert self.peer_database is not None
        return self.stack.environment | {
            baselines.DATABASE_VARIABLE: self.peer_database.service_url,
            arq_peer.REDIS_VARIABLE: self.arq_url,
        }

    @property
    def beacon(self) -> Path:
        """Where handlers say that they start."""
        return self.stack.folder / "beacon"

    @property
    def beacon_variable(self) -> dict[str, str]:
        return {beacon.VARIABLE: str(self.beacon)}

    async def ledger(self) -> asyncpg.Connection[asyncpg.Record]:
        """A connection that sees all of Ferryman's database of this trial."""
        assert self.stack.database is not None
        return await asyncpg.connect(self.stack.database.owner_url, timeout=10)

    async def settle(self) -> None:
        """What the server would do by itself minutes after a bulk load, now: vacuum, then a checkpoint."""
        assert self.stack.database is not None
        await asyncio.to_thread(self._sql, "VACUUM (ANALYZE);\nCHECKPOINT;", self.stack.database.name)

    async def flush_redis(self) -> None:
        """Everything in every database of Redis is gone."""
        async with aioredis.Redis.from_url(self.stack.redis.url) as client:
            await client.flushall()

    async def versions(self) -> dict[str, str]:
        """Of the servers."""
        async with aioredis.Redis.from_url(self.stack.redis.url) as client:
            info = await client.info("server")
        name = info.get("server_name", "redis")
        return {
            "postgres": await asyncio.to_thread(self.stack.postgres.sql, "SHOW server_version;"),
            "redis": f"{name} {info.get(f'{name}_version', info['redis_version'])}",
        }

    def _timed(self, plan: dict[str, Any]) -> dict[str, Any]:
        return {"seconds": self.sizes.seconds} | plan

    async def _run(self, module: str, plan: str) -> dict[str, float]:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"tests.benchmarks.{module}"),
            env=self.child_environment,
            cwd=REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(child.communicate(plan.encode()), CHILD_SECONDS)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            raise ChildError(f"{module}: {errors.decode(errors='replace')[-2000:]}")
        figures: dict[str, float] = json.loads(output)
        return figures

    async def _database(self, name: str, template: str | None = None) -> Database:
        server = self.stack.postgres
        await asyncio.to_thread(server.create_database, name, template)
        return Database(
            name=name,
            owner_url=server.url(SUPERUSER, server.password_of(SUPERUSER), name),
            service_url=server.url(SERVICE_ROLE, server.password_of(SERVICE_ROLE), name),
        )

    def _sql(self, statements: str, database: str = "postgres") -> None:
        self.stack.postgres.sql(statements, database)
