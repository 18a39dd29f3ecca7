"""Where the parts are put together: the only place that knows concrete classes.

Imports stand inside the functions: each kind of process loads only what it needs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from ferryman.settings.environment import SettingsError
from ferryman.settings.processes import ApiSettings, IdentitySettings, StoreSettings, WorkerSettings

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool

    from ferryman.api.services import Dependencies
    from ferryman.auth.keys import KeySource
    from ferryman.core.job import Actor
    from ferryman.core.queues import QueueSettings
    from ferryman.ledger.grants import Grant
    from ferryman.ledger.inspection import Inspection
    from ferryman.ledger.migrate import SchemaState
    from ferryman.ports import Dispatcher, Ledger, QueueRecord
    from ferryman.telemetry.metrics import Metrics
    from ferryman.worker.crew import Outside
    from ferryman.worker.registry import Registry
    from ferryman.worker.runtime import Settings

_CONFIGURATION_ACTOR: Final = "configuration"
_AGAIN_SECONDS: Final = 1.0
_KEYS_SECONDS: Final = 300.0
_COLLECT_AFTER: Final = (20_000, 20, 50)  # new objects, and collections of the younger generations
_ARQ_CONNECTIONS: Final = 2
_ARQ_TIMEOUT_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class SystemClock:
    """The machine's clocks, behind `ports.Clock`."""

    def now(self) -> datetime:
        """An aware UTC instant."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds from an arbitrary start that never run back."""
        return time.monotonic()


def mint_token(
    identity: IdentitySettings,
    tenant_id: str | None,
    user_id: int | None,
    roles: Sequence[str],
    *,
    ttl_seconds: int,
) -> str:
    """A token that an API with these settings takes. Raises SettingsError without a secret."""
    from ferryman.auth.minting import mint

    return mint(
        _secret(identity),
        tenant_id=tenant_id,
        user_id=user_id,
        roles=roles,
        now_s=int(time.time()),
        ttl_s=ttl_seconds,
        issuer=identity.issuer,
        audience=identity.audience,
    )


async def migrate_ledger(
    owner_url: str, *, service_login: str | None, progress: Callable[[str], None] | None = None
) -> list[str]:
    """Bring the schema up to date; answers what was applied. Raises LedgerError."""
    from ferryman.ledger.migrate import migrate

    return await migrate(owner_url, service_login=service_login, progress=progress)


async def create_queues(url: str, names: Sequence[str]) -> None:
    """Create those queues that do not exist, with default settings. Raises LedgerError."""
    from ferryman.core.queues import QueueSettings
    from ferryman.ledger.postgres import open_ledger

    async with open_ledger(url) as ledger:
        for name in names:
            if await ledger.queues.get(name) is None:
                await ledger.queues.put(name, QueueSettings(), _configuration_actor())


async def check_ledger(owner_url: str) -> SchemaState:
    """How the schema stands. Raises LedgerUnavailableError."""
    from ferryman.ledger.migrate import check

    return await check(owner_url)


async def add_grant(owner_url: str, db_role: str, tenant_id: str) -> None:
    """Let a database role call `ferryman.enqueue` for one tenant. Raises LedgerError."""
    from ferryman.ledger import grants

    await grants.add_grant(owner_url, db_role, tenant_id)


async def remove_grant(owner_url: str, db_role: str) -> None:
    """Take that back. Raises LedgerError."""
    from ferryman.ledger import grants

    await grants.remove_grant(owner_url, db_role)


async def list_grants(owner_url: str) -> list[Grant]:
    """Every role that may. Raises LedgerError."""
    from ferryman.ledger import grants

    return await grants.list_grants(owner_url)


async def inspect_ledger(url: str) -> Inspection:
    """One look at the database. Raises LedgerError."""
    from ferryman.ledger.inspection import inspect

    return await inspect(url)


async def inspect_dispatcher(url: str) -> Mapping[str, object]:
    """One look at Redis. Raises DispatcherUnavailableError."""
    dispatcher = _make_dispatcher(url)
    try:
        return await dispatcher.ping()
    finally:
        await dispatcher.close()


async def serve_api(settings: ApiSettings, stop: asyncio.Event) -> None:
    """Serve REST and take part in the maintenance until `stop` is set; then finish what was begun."""
    from ferryman.api.app import begin_stopping, create_app
    from ferryman.api.server import serving
    from ferryman.telemetry import names
    from ferryman.telemetry.metrics import Metrics

    metrics = Metrics()
    keys = _keys(settings.identity, metrics)
    async with _stores(settings.stores, "ferryman-api", metrics) as (ledger, dispatcher):
        given = _api_dependencies(settings, keys, ledger, dispatcher, metrics)
        app = create_app(given)
        _collect_rarely()
        async with (
            serving(
                app,
                host=settings.host,
                port=settings.port,
                limits=given.limits,
                grace_seconds=settings.grace_seconds,
            ) as port,
            _beside(
                partial(_maintain, "api", ledger, dispatcher, metrics),
                partial(_receive, settings.stores, ledger, dispatcher, metrics),
                partial(_provide_queues, ledger, settings.queues),
                partial(_refuse_boundless_login, settings.stores),
                partial(_renew_keys, keys),
            ),
        ):
            log.info(names.API_STARTED, extra={"host": settings.host, "port": port})
            await stop.wait()
            log.info(names.API_STOPPING)
            begin_stopping(app)
            await asyncio.sleep(settings.drain_seconds)
    log.info(names.API_STOPPED)


async def run_pipeline_worker(
    settings: WorkerSettings, queues: Sequence[str], concurrency: int | None
) -> int:
    """Run jobs, and take part in the maintenance, until SIGTERM. Answers the exit code.

    Does not return while handlers that ignored their end still run: then it leaves the process.
    """
    from ferryman.telemetry.metrics import Metrics
    from ferryman.worker.runtime import WorkerOptions, run_worker

    handlers = _load_handlers(settings)
    _collect_rarely()
    metrics = Metrics()
    options = WorkerOptions(
        queues=tuple(dict.fromkeys(queues)), concurrency=concurrency, shutdown_grace_s=settings.grace_seconds
    )
    async with _stores(settings.stores, "ferryman-worker", metrics) as (ledger, dispatcher):
        report = await run_worker(
            _with_deliveries(handlers, settings, queues, ledger, metrics),
            options,
            _outside(settings.stores, ledger, dispatcher, metrics),
            _arq_pool(settings.stores.redis_url),
            [
                partial(_maintain, "worker", ledger, dispatcher, metrics),
                partial(_receive, settings.stores, ledger, dispatcher, metrics),
            ],
        )
    if report.zombies:
        # Their threads would hold up the end of the process for ever.
        logging.shutdown()
        os._exit(report.exit_code)
    return report.exit_code


def _with_deliveries(
    handlers: Registry | Settings,
    settings: WorkerSettings,
    queues: Sequence[str],
    ledger: Ledger,
    metrics: Metrics,
) -> Registry | Settings:
    """The handlers, and beside them that of webhooks where their queue is among the worker's."""
    from ferryman.core.webhooks import WEBHOOK_QUEUE
    from ferryman.worker.courier import Courier
    from ferryman.worker.deliveries import delivery_registry
    from ferryman.worker.registry import Registry

    if WEBHOOK_QUEUE not in queues:
        return handlers
    if not isinstance(handlers, Registry):
        raise SettingsError(f"the queue {WEBHOOK_QUEUE} takes a worker of its own, not an arq settings class")
    courier = Courier(allow_private=settings.webhooks_allow_private)
    together = Registry()
    together.include(handlers)
    together.include(delivery_registry(ledger.webhooks, courier, SystemClock().now, metrics))
    return together


def _collect_rarely() -> None:
    """Spare the garbage collector what was imported, which stays, and batches, which go by themselves.

    Left alone it takes a tenth of the time of single submissions, a fifth of that of bulk ones and of jobs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def _load_handlers(settings: WorkerSettings) -> Registry | Settings:
    from ferryman.worker.registry import Registry, load_registry
    from ferryman.worker.runtime import load_settings

    if not settings.handlers and not settings.arq_settings:
        return Registry()
    place = settings.handlers or settings.arq_settings or ""
    try:
        return load_registry(place) if settings.handlers else load_settings(place)
    except Exception as error:
        # Whatever the application's module raises while it is imported.
        raise SettingsError(
            f"the handlers of {place!r} cannot be loaded: {type(error).__name__}: {error}",
            "They are looked for from the present directory on. --debug shows the traceback.",
        ) from error


def _outside(stores: StoreSettings, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics) -> Outside:
    from ferryman.worker.crew import Outside

    def open_ledger(*, connections: int) -> AbstractAsyncContextManager[Ledger]:
        return _ledger(stores, "ferryman-heartbeat", None, connections)

    return Outside(
        ledger=ledger,
        dispatcher=dispatcher,
        open_ledger=open_ledger,
        open_dispatcher=partial(_make_dispatcher, stores.redis_url),
        clock=SystemClock(),
        dice=random.random,
        metrics=metrics,
    )


def _arq_pool(url: str) -> ConnectionPool:
    """Connections for what arq itself keeps in Redis: its health key."""
    from ferryman.dispatch.connections import open_client

    return open_client(url, connections=_ARQ_CONNECTIONS, timeout_s=_ARQ_TIMEOUT_SECONDS).connection_pool


def _api_dependencies(
    settings: ApiSettings, keys: KeySource, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics
) -> Dependencies:
    from importlib.metadata import version

    from ferryman.api.limits import BuildInfo, Limits
    from ferryman.api.services import Dependencies
    from ferryman.auth.tokens import TokenVerifier

    clock, identity = SystemClock(), settings.identity
    return Dependencies(
        ledger=ledger,
        dispatcher=dispatcher,
        verifier=TokenVerifier(
            keys,
            clock,
            issuer=identity.issuer,
            audience=identity.audience,
            service_subjects=identity.service_subjects,
        ),
        metrics=metrics,
        clock=clock,
        dice=random.random,
        limits=Limits(
            max_body_bytes=settings.max_body_bytes,
            calls_per_second=settings.rates.calls_per_second,
            call_burst=settings.rates.call_burst,
            events_origins=settings.events_origins,
            trusted_proxies=settings.rates.trusted_proxies,
            webhooks_allow_private=settings.webhooks_allow_private,
        ),
        build=BuildInfo(
            version=version("ferryman"),
            environment_name=settings.installation.name,
            trace_link=settings.installation.trace_link,
            logs_link=settings.installation.logs_link,
        ),
    )


def _keys(identity: IdentitySettings, metrics: Metrics) -> KeySource:
    """What tokens are checked by; no address is asked yet. Raises SettingsError for a key that is none."""
    from ferryman.auth.fetching import Fetcher
    from ferryman.auth.jwks import JwksKeys
    from ferryman.auth.keys import hs256_key, public_key

    try:
        if identity.jwks_url is not None:
            fetch = Fetcher(identity.jwks_url, ca=identity.jwks_ca, bearer=identity.jwks_bearer)
            return JwksKeys(fetch, SystemClock(), metrics)
        if identity.public_key is not None:
            return public_key(identity.public_key)
        return hs256_key(_secret(identity))
    except ValueError as error:
        raise SettingsError(f"the key that tokens are checked by cannot be taken: {error}") from None


async def _renew_keys(keys: KeySource, stop: asyncio.Event) -> None:
    """Have the keys before the first token comes, and let go of one that was withdrawn."""
    from ferryman.auth.keys import KeysUnavailableError

    while not stop.is_set():
        try:
            await keys.renew()
            await _pause(stop, _KEYS_SECONDS)
        except KeysUnavailableError:
            await _pause(stop, _AGAIN_SECONDS)


async def _refuse_boundless_login(stores: StoreSettings, stop: asyncio.Event) -> None:
    """End an API whose login is above row-level security, as soon as the ledger can be asked.

    Raises SettingsError.
    """
    from ferryman.ledger.inspection import is_boundless
    from ferryman.ports import LedgerError

    while not stop.is_set():
        try:
            if await is_boundless(stores.database_url):
                raise SettingsError(
                    "the role in FERRYMAN_DATABASE_URL is a superuser or has BYPASSRLS: it is above the wall "
                    "between tenants",
                    "An administrator makes one for the service: CREATE ROLE ferryman LOGIN PASSWORD '…'; "
                    "GRANT ferryman_service TO ferryman;",
                    "FERRYMAN_OWNER_DATABASE_URL is the place of the present one, for `ferryman migrate`.",
                )
            return
        except LedgerError:
            await _pause(stop, _AGAIN_SECONDS)


async def _provide_queues(ledger: Ledger, queues: Mapping[str, QueueSettings], stop: asyncio.Event) -> None:
    """Bring the ledger's queues to what the queues file says, as soon as the ledger can be reached."""
    from ferryman.ports import LedgerError
    from ferryman.telemetry import names

    for name, settings in queues.items():
        while not stop.is_set():
            try:
                present = await ledger.queues.get(name)
                if present is None or not _agrees(present, settings):
                    await ledger.queues.put(name, settings, _configuration_actor())
                    log.info(names.QUEUE_PROVIDED, extra={"queue": name})
                break
            except LedgerError:
                await _pause(stop, _AGAIN_SECONDS)


def _configuration_actor() -> Actor:
    from ferryman.core.job import Actor, ActorKind

    return Actor(kind=ActorKind.SERVICE, id=_CONFIGURATION_ACTOR)


def _agrees(present: QueueRecord, wanted: QueueSettings) -> bool:
    """Whether a PUT would change nothing; a file that does not speak of pausing leaves that alone."""
    from msgspec.structs import replace

    paused = wanted.paused if wanted.paused is not None else present.paused
    return paused == present.paused and replace(present.settings, paused=None) == replace(wanted, paused=None)


async def _maintain(
    kind: str, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics, stop: asyncio.Event
) -> None:
    from ferryman.maintainer.maintainer import Maintainer

    holder = f"{kind}-{socket.gethostname()}-{uuid4().hex[:12]}"
    await Maintainer(holder, ledger, dispatcher, SystemClock(), metrics).run(stop)


async def _receive(
    stores: StoreSettings, ledger: Ledger, dispatcher: Dispatcher, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Push what other applications submit as soon as they commit. Behind a pooler nothing is heard, and the
    leading maintainer finds it within seconds.
    """
    from ferryman.ledger.listening import listen
    from ferryman.maintainer.receiver import Receiver

    if stores.is_pooled:
        return
    told = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Receiver(ledger, dispatcher, metrics).run_when_told(told, stop))
        await listen(stores.database_url, told.set, stop)
        told.set()


@asynccontextmanager
async def _beside(*loops: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run loops beside the block; at its end they are told to stop and waited for."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for loop in loops:
            tasks.create_task(loop(stop))
        try:
            yield
        finally:
            stop.set()


@asynccontextmanager
async def _stores(
    settings: StoreSettings, name: str, metrics: Metrics
) -> AsyncIterator[tuple[Ledger, Dispatcher]]:
    """Ledger and dispatcher for the block. Neither is dialled yet: both may come later."""
    async with _ledger(settings, name, metrics, settings.pool_size) as ledger:
        dispatcher = _make_dispatcher(settings.redis_url)
        try:
            yield ledger, dispatcher
        finally:
            await dispatcher.close()


def _ledger(
    settings: StoreSettings, name: str, metrics: Metrics | None, connections: int
) -> AbstractAsyncContextManager[Ledger]:
    from ferryman.ledger.postgres import open_ledger

    hot = max(1, connections // 2)
    return open_ledger(
        settings.database_url,
        connections=hot,
        readers=max(1, connections - hot),
        application_name=name,
        pooler=settings.is_pooled,
        metrics=metrics,
    )


def _make_dispatcher(url: str) -> Dispatcher:
    from ferryman.dispatch.connections import RedisAddressError
    from ferryman.dispatch.dispatcher import open_dispatcher

    try:
        return open_dispatcher(url)
    except RedisAddressError as error:
        raise SettingsError(f"FERRYMAN_REDIS_URL is wrong: {error}") from None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _secret(identity: IdentitySettings) -> str:
    if identity.secret is None:
        raise SettingsError(
            "FERRYMAN_JWT_SECRET is not set, and only it can sign",
            "Tokens that are checked by FERRYMAN_JWT_PUBLIC_KEY or FERRYMAN_JWKS_URL come from their issuer.",
        )
    return identity.secret
