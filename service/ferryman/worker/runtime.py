"""`PipelineWorker`: arq's worker runtime on this engine. The only module that imports `arq.worker`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from signal import Signals
from typing import Any, Final, cast

import msgspec
from arq.connections import log_redis_info
from arq.cron import CronJob
from arq.utils import import_string
from arq.worker import Function, Worker, func, get_kwargs
from msgspec import Struct
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from ferryman import failpoints
from ferryman.telemetry import names
from ferryman.worker.arq_bridge import ArqHandler
from ferryman.worker.arq_redis import Enqueuer, LedgerRedis, pool_of
from ferryman.worker.backoff import Backoff
from ferryman.worker.crew import Crew, Outside
from ferryman.worker.lease import Identity
from ferryman.worker.registry import Handler, Registry

DEFAULT_CONCURRENCY: Final = 10
DEFAULT_GRACE_S: Final = 30.0
HEART_BEAT_S: Final = 0.5
BACKGROUND_AGAIN_S: Final = 1.0
BESIDE_GRACE_S: Final = 5.0
SYSTEM_TENANT: Final = "system"
# What of a settings class is ours to decide: where jobs and results are, and how they are written.
_OURS: Final = frozenset(
    {
        "functions",
        "queue_name",
        "redis_settings",
        "redis_pool",
        "handle_signals",
        "job_completion_wait",
        "keep_result",
        "keep_result_forever",
        "max_jobs",
        "job_serializer",
        "job_deserializer",
    }
)

log = logging.getLogger(__name__)

Background = Callable[[asyncio.Event], Awaitable[None]]
"""Runs beside the worker until the event is set."""


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """How a worker is set up. `concurrency` None: `max_jobs` of the settings class, else 10."""

    queues: tuple[str, ...] = ("default",)
    concurrency: int | None = None
    shutdown_grace_s: float = DEFAULT_GRACE_S
    pod: str = ""
    worker_id: str | None = None
    handle_signals: bool = True
    system_tenant: str = SYSTEM_TENANT
    system_user: int = 0


class WorkerReport(Struct, frozen=True, kw_only=True):
    """How a worker ended. With zombies the event loop cannot be closed in peace: the process must leave by
    `os._exit`. `exit_code` is 1 when zombies made it stop, else 0.
    """

    worker_id: str
    exit_code: int
    zombies: int
    completed: int
    retried: int
    failed: int


Settings = type[Any] | Mapping[str, Any]
"""An arq settings class, or the dict that arq takes in its place."""


class PipelineWorker(Worker):
    """Keeps of arq's worker its signals, hooks, function registry, `ctx`, cron and health; claiming, running
    and finishing jobs is the crew's. It never ends on an exception once it is up.
    """

    def __init__(
        self,
        handlers: Registry | Settings,
        options: WorkerOptions,
        outside: Outside,
        redis_pool: ConnectionPool,
        background: Sequence[Background] = (),
    ) -> None:
        given = (
            {} if isinstance(handlers, Registry) else cast(dict[str, Any], get_kwargs(cast(Any, handlers)))
        )
        functions = _functions(handlers) if isinstance(handlers, Registry) else given.get("functions", ())
        slots = options.concurrency or given.get("max_jobs") or DEFAULT_CONCURRENCY
        worker_id = options.worker_id or fresh_worker_id()
        table: dict[str, Handler] = {}
        self.crew = Crew(
            Identity(
                worker_id=worker_id,
                pod=options.pod or socket.gethostname(),
                queues=list(options.queues),
                types=sorted(_names(functions, given.get("cron_jobs"))),
                slots=slots,
            ),
            outside,
            table,
        )
        enqueuer = Enqueuer(
            outside.ledger,
            self.crew.offspring,
            outside.clock,
            worker_id=worker_id,
            queue=options.queues[0],
            aliases=[given["queue_name"]] if given.get("queue_name") else [],
            system=(options.system_tenant, options.system_user),
            stored=self.crew.announce,
        )
        settings = given.get("redis_settings")
        super().__init__(
            functions,
            queue_name=options.queues[0],
            redis_pool=LedgerRedis(enqueuer, redis_pool if settings is None else pool_of(settings)),
            handle_signals=options.handle_signals,
            max_jobs=slots,
            keep_result=0,
            job_serializer=msgspec.json.encode,
            job_deserializer=msgspec.json.decode,
            **{"health_check_key": f"fm:worker:{worker_id}:health", **_theirs(given)},
        )
        table.update(handlers.handlers if isinstance(handlers, Registry) else self._arq_handlers(given))
        enqueuer.cron_names = frozenset(cron.name for cron in self.cron_jobs)
        self.tasks = cast("dict[str, asyncio.Task[Any]]", self.crew.executor.tasks)
        self.on_shutdown = _once(self.on_shutdown)
        self._grace_s = options.shutdown_grace_s
        self._background = tuple(background)
        self._beside: list[asyncio.Task[Any]] = []
        self._ending = asyncio.Event()
        self._pause = Backoff(0.1, 5.0)
        self._is_up = False

    async def main(self) -> None:
        """Start up, then one cycle after another until the worker is to stop.

        Raises EvictingRedisError, and what `on_startup` raises.
        """
        await self.crew.check_dispatcher()
        try:
            await log_redis_info(self.pool, log.info)
        except (RedisError, OSError) as error:
            log.warning(names.DISPATCHER_AWAY, extra={"error": str(error)})
        self.ctx["redis"] = self.pool
        if self.on_startup:
            await self.on_startup(self.ctx)
        await self.crew.begin()
        self._is_up = True
        log.info(names.WORKER_STARTED, extra=msgspec.to_builtins(self.crew.identity))
        work = [self._heart(), *(self._run_beside(run) for run in self._background)]
        self._beside = [self.loop.create_task(one) for one in work]
        while not self.crew.is_done:
            await self._poll_iteration()

    async def _poll_iteration(self) -> None:
        try:
            await self.crew.cycle(may_end=self.burst)
            self._pause.reset()
        except Exception:
            log.exception(names.WORKER_CYCLE_FAILED)
            await self._pause.pause()

    async def close(self) -> None:
        """Wind down, then let arq close: `on_shutdown` runs once, also when Redis is away."""
        if self._pool is None:
            return
        await self.crew.wind_down(self._grace_s)
        self._ending.set()
        await _ended(self._beside, BESIDE_GRACE_S)
        self.tasks = {}  # nothing is left but zombies, and nobody waits for them
        try:
            await super().close()
        except (RedisError, OSError) as error:
            log.warning(names.DISPATCHER_AWAY, extra={"error": str(error)})
            if self.on_shutdown:
                await self.on_shutdown(self.ctx)
        self._pool = None
        log.info(names.WORKER_STOPPED, extra=msgspec.to_builtins(self.report()))

    def report(self) -> WorkerReport:
        """How it went."""
        executor = self.crew.executor
        return WorkerReport(
            worker_id=self.crew.identity.worker_id,
            exit_code=1 if self.crew.drain.is_worn_out else 0,
            zombies=executor.zombies,
            completed=executor.counts["complete"],
            retried=executor.counts["retried"],
            failed=executor.counts["failed"],
        )

    # ------------------------------------------------------------------------------ arq's own, made patient

    def handle_sig(self, signum: Signals) -> None:
        """Stop in peace; asked again, give back at once what still runs."""
        failpoints.reach("worker.on_stop")
        log.info(names.WORKER_STOPPING, extra={"signal": Signals(signum).name})
        self.allow_pick_jobs = False
        if self.crew.drain.is_stopping:
            self.crew.executor.interrupt_all()
        self.crew.drain.stop()
        if not self._is_up and self.main_task is not None:
            self.main_task.cancel()
        if self.on_stop is not None:
            self.on_stop(signum)

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """The same: every stop waits for completion."""
        self.handle_sig(signum)

    async def heart_beat(self) -> None:
        """arq's, on a task of its own, so that a long cycle misses no cron tick."""
        await self.record_health()
        await self.run_cron(datetime.now(tz=self.timezone), max(self.poll_delay_s, HEART_BEAT_S))

    async def record_health(self) -> None:
        """arq's health key. Redis being away must not hold up the cron jobs."""
        counts = self.crew.executor.counts
        self.jobs_complete, self.jobs_failed, self.jobs_retried = (
            counts["complete"],
            counts["failed"],
            counts["retried"],
        )
        try:
            await super().record_health()
        except (RedisError, OSError) as error:
            log.debug(names.HEALTH_FAILED, extra={"error": str(error)})

    async def _heart(self) -> None:
        while not self._ending.is_set():
            try:
                await self.heart_beat()
            except Exception:
                log.exception(names.HEALTH_FAILED)
            await _passed(self._ending, HEART_BEAT_S)

    async def _run_beside(self, run: Background) -> None:
        while not self._ending.is_set():
            try:
                await run(self._ending)
            except Exception:
                log.exception(names.BACKGROUND_FAILED)
            await _passed(self._ending, BACKGROUND_AGAIN_S)

    def _arq_handlers(self, given: Mapping[str, Any]) -> dict[str, Handler]:
        """A handler for every function and cron job. Without a word of the class the queue's time limit
        holds.
        """
        timeout_s = self.job_timeout_s if "job_timeout" in given else None
        return {
            name: ArqHandler(function, self, timeout_s=timeout_s) for name, function in self.functions.items()
        }


async def run_worker(
    handlers: Registry | Settings,
    options: WorkerOptions,
    outside: Outside,
    redis_pool: ConnectionPool,
    background: Sequence[Background] = (),
) -> WorkerReport:
    """Run a worker until it is told to stop (SIGTERM, SIGINT) or too many zombies wear it out.

    Raises RegistrationError for handlers that cannot be registered, EvictingRedisError, and what
    `on_startup` raises. With zombies in the report, see WorkerReport.
    """
    worker = PipelineWorker(handlers, options, outside, redis_pool, background)
    try:
        await worker.async_run()
    except asyncio.CancelledError:
        if not worker.crew.drain.is_stopping:
            raise
    finally:
        await worker.close()
    return worker.report()


def fresh_worker_id() -> str:
    """`<host>-<8 hex digits>`: new with each start, so that a restarted pod is never taken for its past."""
    return f"{socket.gethostname()[:80]}-{secrets.token_hex(4)}"


def load_settings(place: str) -> Settings:
    """The arq settings class at `package.module.Class`. Raises ImportError."""
    found: Settings = import_string(place)
    return found


def _theirs(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in _OURS}


def _functions(registry: Registry) -> list[Function]:
    return [
        Function(
            name=handler.type,
            coroutine=cast(Any, handler.function),
            timeout_s=None,
            keep_result_s=0,
            keep_result_forever=False,
            max_tries=None,
        )
        for handler in registry.handlers.values()
    ]


def _names(functions: Sequence[Any], cron_jobs: Sequence[CronJob] | None) -> set[str]:
    return {func(function).name for function in functions} | {cron.name for cron in cron_jobs or ()}


def _once(hook: Any) -> Any:
    """The hook, and nothing when it is called again."""
    if hook is None:
        return None
    calls = iter([hook])

    async def call(ctx: dict[Any, Any]) -> None:
        if (first := next(calls, None)) is not None:
            await first(ctx)

    return call


async def _passed(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


async def _ended(tasks: Sequence[asyncio.Task[Any]], seconds: float) -> None:
    """Give the tasks a while, then cancel them."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
