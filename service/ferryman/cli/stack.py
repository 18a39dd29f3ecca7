"""The whole pipeline on this machine: embedded servers, one API and workers, each a process of its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from ferryman.cli.access import DEVELOPMENT_TENANT, DEVELOPMENT_USER, PERSON, SERVICE
from ferryman.cli.concurrently import both
from ferryman.cli.failures import CommandError
from ferryman.cli.supervisor import CommandUnit, ServerUnit, Supervisor
from ferryman.client import Client, ClientError
from ferryman.core.queues import BUILT_IN
from ferryman.core.webhooks import WEBHOOK_QUEUE
from ferryman.embedded import EmbeddedPostgres, EmbeddedRedis
from ferryman.embedded.loopback import HOST, free_port, is_free
from ferryman.embedded.secret_files import write_secret
from ferryman.settings import Environment
from ferryman.settings import variables as v
from ferryman.settings.processes import (
    IdentitySettings,
    grace_seconds,
    identity_settings,
    local_servers,
    queues_of_file,
)
from ferryman.wiring import create_queues, migrate_ledger, mint_token

DEMO_HANDLERS: Final = "ferryman.worker.demo_handlers"
TOKEN_SECONDS: Final = 43_200
_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.05
_ENDS_TOO_MANY: Final = 3
# Where the processes are and whom they trust is the stack's to say, whatever the caller has set.
_OWN: Final = (
    v.DATABASE_URL, v.OWNER_DATABASE_URL, v.REDIS_URL, v.JWT_SECRET, v.JWT_PUBLIC_KEY, v.JWKS_URL,
    v.HOST, v.PORT, v.API_URL, v.TOKEN,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StackOptions:
    """What may be chosen. `port` 0 takes a free one; without `data_dir` everything is gone at the end;
    without `log_dir` API and workers log to stderr.
    """

    port: int
    workers: int
    handlers: str | None = None
    queues: Sequence[str] = ()
    data_dir: Path | None = None
    log_dir: Path | None = None


class Stack:
    """An async context in which the pipeline runs.

    `tell` gets lines for people; `changed` is called when a process was replaced.
    """

    def __init__(
        self,
        options: StackOptions,
        environment: Mapping[str, str],
        *,
        tell: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        self._options = options
        self._settings = Environment(environment)
        self._inherited = environment
        self._supervisor = Supervisor(changed=changed, tell=tell)
        self.port = _free(options.port)
        self.identity = _identity(self._settings, options.data_dir)
        self._handlers = options.handlers or self._settings.get(v.HANDLERS) or DEMO_HANDLERS
        self.queues = list(dict.fromkeys([*BUILT_IN, *queues_of_file(self._settings), *options.queues]))
        self._token = mint_token(
            self.identity, DEVELOPMENT_TENANT, DEVELOPMENT_USER, PERSON, ttl_seconds=TOKEN_SECONDS
        )
        self._service_token = mint_token(self.identity, None, None, SERVICE, ttl_seconds=TOKEN_SECONDS)
        servers = local_servers(self._settings)
        self.postgres = EmbeddedPostgres(_below(options.data_dir, "postgres"), bin_dir=servers.postgres_bin)
        self.redis = EmbeddedRedis(_below(options.data_dir, "redis"), binary=servers.redis_bin)
        self._api: CommandUnit | None = None
        self._workers: list[CommandUnit] = []

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"http://{HOST}:{self.port}"

    @property
    def token(self) -> str:
        """Of user 1 of tenant acme, with the roles user, admin and platform."""
        return self._token

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let running jobs end within the grace, then stop everything."""
        # A little longer than the processes give themselves.
        await self._supervisor.stop(grace_seconds(self._settings) + 5.0)
        # What was never handed to the supervisor still has its folder.
        await asyncio.to_thread(self.redis.close)
        await asyncio.to_thread(self.postgres.close)

    def hurry(self) -> None:
        """Let a stop under way end now: running jobs are taken up again after the next start, or lost."""
        self._supervisor.kill()

    def description(self) -> dict[str, Any]:
        """Addresses, secrets and process ids: what the ready file holds."""
        assert self._api is not None, "the stack has not started"
        return {
            "url": self.url,
            "token": self._token,
            "jwtSecret": self.identity.secret,
            "serviceToken": self._service_token,
            "databaseUrl": self.postgres.service_url,
            "ownerDatabaseUrl": self.postgres.owner_url,
            "redisUrl": self.redis.url,
            "pids": {
                "api": self._api.pid,
                "workers": [worker.pid for worker in self._workers],
                "postgres": self.postgres.pid,
                "redis": self.redis.pid,
            },
        }

    async def _start(self) -> None:
        await both(
            self._supervisor.add(ServerUnit("PostgreSQL", self.postgres)),
            self._supervisor.add(ServerUnit("Redis", self.redis)),
        )
        await migrate_ledger(
            self.postgres.owner_url, service_login=urlsplit(self.postgres.service_url).username
        )
        # Before the API has read the queues file: workers look for their queues at once.
        await create_queues(self.postgres.service_url, self.queues)
        self._api = self._command("API", "api", "--host", HOST, "--port", str(self.port))
        await self._supervisor.add(self._api)
        for number in range(1, self._options.workers + 1):
            await self._add_worker(number)
        async with Client(self.url, self._service_token, tries=1) as client:
            await self._until(client, _is_ready)
            await self._until(client, self._has_all_workers)

    async def _add_worker(self, number: int) -> None:
        # The first one brings webhooks to their endpoints besides.
        served = [*self.queues, WEBHOOK_QUEUE] if number == 1 else self.queues
        queues = [word for queue in served for word in ("--queue", queue)]
        worker = self._command(f"worker {number}", "worker", "--handlers", self._handlers, *queues)
        await self._supervisor.add(worker)
        self._workers.append(worker)

    async def _until(self, client: Client, reached: Callable[[Client], Any]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not await reached(client):
            if time.monotonic() > deadline:
                raise CommandError(f"the pipeline was not up within {_START_SECONDS:.0f} s")
            if self._supervisor.ends >= _ENDS_TOO_MANY:
                raise CommandError("a process of the pipeline does not stay up; its last words say why")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _has_all_workers(self, client: Client) -> bool:
        status = await client.call("GET", "/api/jobs/queue/status", params={"queue": self.queues[0]})
        return int(status["workers"]["count"]) >= len(self._workers)

    def _command(self, name: str, *arguments: str) -> CommandUnit:
        log_dir = self._options.log_dir
        log = None if log_dir is None else log_dir / f"{name.lower().replace(' ', '-')}.log"
        return CommandUnit(name, arguments, self._environment(), log)

    def _environment(self) -> dict[str, str]:
        own = {name for variable in _OWN for name in (variable.name, f"{variable.name}_FILE")}
        kept = {name: value for name, value in self._inherited.items() if name not in own}
        assert self.identity.secret is not None
        # Nobody routes requests here by readiness.
        return (
            {v.API_DRAIN_SECONDS.name: "0"}
            | kept
            | {
                v.DATABASE_URL.name: self.postgres.service_url,
                v.REDIS_URL.name: self.redis.url,
                v.JWT_SECRET.name: self.identity.secret,
            }
        )


async def _is_ready(client: Client) -> bool:
    try:
        await client.call("GET", "/readyz")
    except ClientError:
        return False
    return True


def _free(port: int) -> int:
    if port == 0:
        return free_port()
    if not is_free(port):
        raise CommandError(
            f"port {port} of {HOST} is taken", "Another one: --port 3102. Any free one: --port 0."
        )
    return port


def _below(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _identity(settings: Environment, data_dir: Path | None) -> IdentitySettings:
    """The caller's secret; else the one that the data directory keeps; else a new one."""
    if settings.is_set(v.JWT_SECRET):
        return identity_settings(settings)
    return IdentitySettings(
        secret=_kept_secret(data_dir),
        public_key=None,
        jwks_url=None,
        issuer=settings.get(v.JWT_ISSUER),
        audience=settings.get(v.JWT_AUDIENCE),
    )


def _kept_secret(data_dir: Path | None) -> str:
    generated = secrets.token_urlsafe(48)
    if data_dir is None:
        return generated
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "jwt-secret"
    if not path.exists():
        write_secret(path, generated)
    return path.read_text(encoding="utf-8")
