"""`ctx["redis"]` of arq handlers: a Redis client whose `enqueue_job` goes through the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, JobDef, JobResult, JobStatus, ResultNotFound, SerializationError
from arq.utils import to_ms
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel

from ferryman.core import job as core
from ferryman.core.failures import ValidationError
from ferryman.core.ids import uuid7
from ferryman.core.job import Actor, ActorKind, Claimed
from ferryman.core.status import JobStatus as Status
from ferryman.core.status import is_final, is_waiting
from ferryman.lifecycle.orders import Order
from ferryman.ports import Clock, Ledger, LedgerUnavailableError, Scope
from ferryman.worker.backoff import Backoff
from ferryman.worker.children import check_type
from ferryman.worker.context import MAX_INPUT_BYTES
from ferryman.worker.offspring import Offspring, Origin, origin_of
from ferryman.worker.results import checked

JOB_TRY: Final = "arq.job_try"
MAX_KEY_CHARS: Final = 200
SOCKET_TIMEOUT_S: Final = 5.0

# The job that the running code belongs to; what is enqueued from there is its child.
parent: ContextVar[Claimed | None] = ContextVar("parent", default=None)


class Enqueuer:
    """Stores what arq code enqueues, and lets the worker tell Redis."""

    def __init__(
        self,
        ledger: Ledger,
        offspring: Offspring,
        clock: Clock,
        *,
        worker_id: str,
        queue: str,
        aliases: Sequence[str],
        system: tuple[str, int],
        stored: Callable[[UUID], None],
    ) -> None:
        self.ledger = ledger
        self.queue = queue
        self._offspring = offspring
        self._clock = clock
        self._worker_id = worker_id
        self._aliases = frozenset(aliases)
        self._system = system
        self._stored = stored
        self.cron_names: frozenset[str] = frozenset()

    async def enqueue(self, order: Order, *, key: str | None) -> tuple[UUID, str, bool]:
        """Id, tenant, and whether a twin was there already. A cron tick is tried until the ledger has it."""
        origin = self._origin()
        tick = self._tick_id(order.type, key, origin.tenant_id)
        if tick is None:
            order = msgspec.structs.replace(order, unique_key=None if key is None else _bounded(key))
            return await self._insert(order, origin, self._fresh_id())
        backoff = Backoff(0.2, 2.0)
        while True:
            try:
                return await self._insert(order, origin, tick)
            except LedgerUnavailableError:
                await backoff.pause()

    def queue_of(self, asked: str | None) -> str:
        """The queue that arq code means: its own name for the worker's queue is the worker's queue."""
        return self.queue if asked is None or asked in self._aliases else asked

    def tenant_id(self) -> str:
        """The tenant of what is enqueued now."""
        return self._origin().tenant_id

    async def _insert(self, order: Order, origin: Origin, job_id: UUID) -> tuple[UUID, str, bool]:
        job = await self._offspring.row_of(order, origin, job_id=job_id)
        actor = Actor(kind=ActorKind.WORKER, id=self._worker_id, correlation_id=origin.correlation_id)
        inserted = await self.ledger.jobs.insert(job, actor)
        if is_waiting(inserted.status):
            self._stored(inserted.id)
        return inserted.id, origin.tenant_id, inserted.duplicate

    def _origin(self) -> Origin:
        running = parent.get()
        if running is not None:
            return origin_of(running)
        tenant_id, user_id = self._system
        return Origin(tenant_id=tenant_id, user_id=user_id, correlation_id=str(self._fresh_id()))

    def _tick_id(self, function: str, key: str | None, tenant_id: str) -> UUID | None:
        """The id of a cron tick: made of its name and instant, so that it is one job across workers, also
        once it has ended.
        """
        if function not in self.cron_names or key is None:
            return None
        name, _, instant_ms = key.rpartition(":")
        if name != function or not instant_ms.isdigit():
            return None
        seed = hashlib.sha256(f"{tenant_id}\n{self.queue}\n{key}".encode()).digest()
        return uuid7(int(instant_ms), seed[:10])

    def _fresh_id(self) -> UUID:
        return uuid7(int(self._clock.now().timestamp() * 1_000), os.urandom(10))


class LedgerRedis(ArqRedis):
    """An ArqRedis for everything else; jobs go to the ledger."""

    def __init__(self, enqueuer: Enqueuer, pool: ConnectionPool) -> None:
        super().__init__(
            pool,
            job_serializer=msgspec.json.encode,
            job_deserializer=msgspec.json.decode,
            default_queue_name=enqueuer.queue,
        )
        self.enqueuer = enqueuer

    async def enqueue_job(
        self,
        function: str,
        *args: Any,
        _job_id: str | None = None,
        _queue_name: str | None = None,
        _defer_until: datetime | None = None,
        _defer_by: int | float | timedelta | None = None,
        _expires: int | float | timedelta | None = None,
        _job_try: int | None = None,
        **kwargs: Any,
    ) -> Job | None:
        """As arq's, stored durably before it answers. None: an unfinished job with this `_job_id` exists.

        Raises arq's SerializationError for arguments that are no JSON, ValidationError for a name that is no
        type of job and for an unknown queue, and the ledger's errors.
        """
        if _defer_until and _defer_by:
            raise RuntimeError("use either 'defer_until' or 'defer_by' or neither, not both")
        check_type(function)
        enqueuer = self.enqueuer
        order = Order(
            type=function,
            queue=enqueuer.queue_of(_queue_name),
            priority=0,
            input=_document(function, args, kwargs),
            metadata=b"{}" if _job_try is None else msgspec.json.encode({JOB_TRY: _job_try}),
            tags=[],
            delay_ms=to_ms(_defer_by) or 0,
            run_at=None if _defer_until is None else _defer_until.astimezone(),
            ttl_ms=to_ms(_expires) or None,
        )
        job_id, tenant_id, is_twin = await enqueuer.enqueue(order, key=_job_id)
        return None if is_twin else LedgerJob(job_id, tenant_id, self, order.queue)

    async def close(self, close_connection_pool: bool | None = None) -> None:
        """The name under which arq closes it; redis-py warns of its own method of this name."""
        await self.aclose(close_connection_pool)


class LedgerJob(Job):
    """A reference to a job in the ledger, with arq's questions."""

    __slots__ = ("_id", "_tenant_id")

    def __init__(self, job_id: UUID, tenant_id: str, redis: LedgerRedis, queue: str) -> None:
        super().__init__(str(job_id), redis, queue)
        self._id = job_id
        self._tenant_id = tenant_id

    async def result(
        self, timeout: float | None = None, *, poll_delay: float = 0.5, pole_delay: float | None = None
    ) -> Any:
        """What the handler returned. Raises RuntimeError with its failure, CancelledError, ResultNotFound,
        TimeoutError.
        """
        async with asyncio.timeout(timeout):
            while True:
                job = await self._get()
                if job is None:
                    raise ResultNotFound(f"there is no job {self.job_id}")
                if is_final(job.status):
                    return _result(job)
                await asyncio.sleep(poll_delay if pole_delay is None else pole_delay)

    async def info(self) -> JobDef | None:
        """What was enqueued, and its result once it has ended."""
        job = await self._get()
        return None if job is None else _definition(job)

    async def result_info(self) -> JobResult | None:
        """The result, None before the job has ended."""
        job = await self._get()
        return _job_result(job) if job is not None and is_final(job.status) else None

    async def status(self) -> JobStatus:
        """arq's word for the job's status."""
        job = await self._get()
        if job is None:
            return JobStatus.not_found
        if is_final(job.status):
            return JobStatus.complete
        if job.status is Status.RUNNING:
            return JobStatus.in_progress
        return JobStatus.queued if job.status is Status.PENDING else JobStatus.deferred

    async def abort(self, *, timeout: float | None = None, poll_delay: float = 0.5) -> bool:
        """Cancel the job and wait for its end. True if it was cancelled."""
        actor = Actor(kind=ActorKind.WORKER, id="arq")
        await self._ledger.jobs.cancel(Scope(tenant_id=self._tenant_id), self._id, actor)
        try:
            await self.result(timeout, poll_delay=poll_delay)
        except asyncio.CancelledError:
            return True
        except (ResultNotFound, RuntimeError):
            return False
        return False

    @property
    def _ledger(self) -> Ledger:
        redis: LedgerRedis = self._redis  # type: ignore[assignment]
        return redis.enqueuer.ledger

    async def _get(self) -> core.Job | None:
        return await self._ledger.jobs.get(Scope(tenant_id=self._tenant_id), self._id)


def split_input(document: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments out of a job's input: `args` holds the positional ones."""
    kwargs: dict[str, Any] = msgspec.json.decode(document)
    args = kwargs.pop("args", [])
    return (args, kwargs) if isinstance(args, list) else ([args], kwargs)


def _document(function: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bytes:
    try:
        return checked("the input", {**kwargs, "args": list(args)} if args else kwargs, MAX_INPUT_BYTES)
    except ValidationError as error:
        raise SerializationError(f'unable to serialize job "{function}": {error}') from error


def _bounded(key: str) -> str:
    return key if len(key) <= MAX_KEY_CHARS else hashlib.sha256(key.encode()).hexdigest()


def _output(job: core.Job) -> Any:
    """The handler's own result, out of the object that the ledger keeps."""
    output = msgspec.json.decode(job.output or b"{}")
    if output == {}:
        return None
    return output["result"] if output.keys() == {"result"} else output


def _result(job: core.Job) -> Any:
    match job.status:
        case Status.COMPLETED:
            return _output(job)
        case Status.CANCELLED:
            raise asyncio.CancelledError
        case Status.EXPIRED:
            raise ResultNotFound(f"job {job.id} expired before it was started")
        case _:
            raise RuntimeError(job.error_message or "the job failed")


def _definition(job: core.Job) -> JobDef:
    args, kwargs = split_input(job.input)
    return JobDef(
        function=job.type,
        args=tuple(args),
        kwargs=kwargs,
        job_try=job.attempt,
        enqueue_time=job.created_at,
        score=round(job.run_at.timestamp() * 1_000),
        job_id=str(job.id),
    )


def _job_result(job: core.Job) -> JobResult:
    definition = _definition(job)
    succeeded = job.status is Status.COMPLETED
    return JobResult(
        **vars(definition),
        success=succeeded,
        result=_output(job) if succeeded else RuntimeError(job.error_message or job.status.value),
        start_time=job.started_at or job.created_at,
        finish_time=job.completed_at or job.updated_at,
        queue_name=job.queue,
    )


def pool_of(settings: RedisSettings) -> ConnectionPool:
    """The connections that arq's settings describe, opened when they are first used."""
    secure = {
        "ssl": settings.ssl,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_cert_reqs": settings.ssl_cert_reqs,
        "ssl_ca_certs": settings.ssl_ca_certs,
        "ssl_ca_data": settings.ssl_ca_data,
        "ssl_check_hostname": settings.ssl_check_hostname,
    }
    common: dict[str, Any] = {
        "db": settings.database,
        "username": settings.username,
        "password": settings.password,
        "socket_connect_timeout": settings.conn_timeout,
        "socket_timeout": SOCKET_TIMEOUT_S,
        **(secure if settings.ssl else {}),
    }
    if isinstance(settings.host, str):
        client = Redis(
            host=settings.host,
            port=settings.port,
            unix_socket_path=settings.unix_socket_path,
            max_connections=settings.max_connections,
            **common,
        )
    else:
        sentinel = Sentinel(settings.host, **common)  # type: ignore[no-untyped-call]
        client = sentinel.master_for(settings.sentinel_master)
    return client.connection_pool
