"""The examination behind `ferryman doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ferryman.cli.durations import shown
from ferryman.cli.findings import Finding, good, problem, warning
from ferryman.client import Client, ClientError
from ferryman.ports import DispatcherUnavailableError, LedgerError, LedgerUnavailableError
from ferryman.settings import Environment, SettingsError
from ferryman.settings import variables as v
from ferryman.wiring import inspect_dispatcher, inspect_ledger

if TYPE_CHECKING:
    from ferryman.ledger.inspection import Inspection

WORKER_LOST_MS: Final = 6_000
CLOCK_SKEW: Final = timedelta(seconds=1)


async def examine(environment: Environment) -> list[Finding]:
    """Look at everything that this environment names."""
    findings = list(_configuration(environment))
    if not environment.is_set(v.DATABASE_URL) and environment.is_set(v.API_URL):
        return [*findings, *await _api(environment)]
    findings += await _ledger(environment)
    findings += await _dispatcher(environment)
    if environment.is_set(v.API_URL):
        findings += await _api(environment)
    return findings


def _configuration(environment: Environment) -> Iterator[Finding]:
    values = files = 0
    is_wrong = False
    for variable in v.ALL:
        try:
            if environment.get(variable) is not None:
                values += 1
                files += environment.is_from_file(variable)
        except SettingsError as error:
            is_wrong = True
            yield problem("configuration", str(error), " ".join(error.advice))
    for name, meant in environment.unknown():
        yield warning(
            "configuration", f"{name} means nothing", f"rename it to {meant}" if meant else "unset it"
        )
    if not is_wrong:
        yield good("configuration", f"{values} values, {files} from files")


async def _ledger(environment: Environment) -> list[Finding]:
    try:
        seen = await inspect_ledger(environment.require(v.DATABASE_URL))
    except SettingsError as error:
        return [problem("PostgreSQL", str(error), "ferryman dev brings its own")]
    except LedgerUnavailableError as error:
        return [problem("PostgreSQL", str(error), "check FERRYMAN_DATABASE_URL and that the server runs")]
    except LedgerError as error:
        return [problem("PostgreSQL", str(error), "check the rights of the role in FERRYMAN_DATABASE_URL")]
    return [*_server(seen), *_schema(seen), _clock(seen), *_workers(seen), *_queues(seen)]


def _server(seen: Inspection) -> Iterator[Finding]:
    fsync = "on" if seen.fsync else "off"
    yield good(
        "PostgreSQL",
        f"{seen.version}, reachable in {seen.round_trip_ms:.1f} ms as {seen.login}, fsync {fsync}",
    )
    if not seen.fsync or not seen.full_page_writes:
        yield problem(
            "PostgreSQL",
            "fsync or full_page_writes is off: a crash may lose acknowledged jobs",
            "turn both on",
        )
    if seen.synchronous_commit == "off":
        yield problem(
            "PostgreSQL",
            "synchronous_commit is off: a crash may lose acknowledged jobs",
            "ALTER SYSTEM RESET synchronous_commit",
        )
    if seen.is_standby:
        yield problem("PostgreSQL", "this is a standby: it takes no jobs", "connect to the primary")
    if seen.is_boundless:
        yield problem(
            "PostgreSQL",
            f"{seen.login} is above row-level security: the API does not start as a superuser or BYPASSRLS",
            "CREATE ROLE ferryman LOGIN PASSWORD '…'; GRANT ferryman_service TO ferryman",
        )
    elif seen.is_owner:
        yield warning(
            "PostgreSQL",
            f"{seen.login} owns the schema: who takes over an API may change it",
            "serve as a role of its own, and migrate as FERRYMAN_OWNER_DATABASE_URL",
        )
    if seen.is_pooled:
        yield warning(
            "PostgreSQL", "there is a pooler in between", "let it pool by session, or connect directly"
        )


def _schema(seen: Inspection) -> Iterator[Finding]:
    schema = seen.schema
    if schema.pending:
        yield problem("schema", f"{len(schema.pending)} migrations are due", "ferryman migrate")
    elif schema.changed:
        yield problem(
            "schema",
            f"{', '.join(schema.changed)} changed after it was applied",
            "restore the release's file",
        )
    else:
        newer = f", {len(schema.unknown)} of a newer version" if schema.unknown else ""
        yield good("schema", f"{len(schema.applied)} migrations applied, none due{newer}")


def _clock(seen: Inspection) -> Finding:
    skew = datetime.now(UTC) - timedelta(milliseconds=seen.round_trip_ms / 2) - seen.now
    text = f"{shown(abs(skew).total_seconds() * 1_000)} from PostgreSQL's"
    if abs(skew) > CLOCK_SKEW:
        return warning(
            "clock", f"{text}: jobs follow PostgreSQL's, logs follow ours", "synchronise the clocks"
        )
    return good("clock", text)


def _workers(seen: Inspection) -> Iterator[Finding]:
    live = [worker for worker in seen.workers if worker.silent_ms < WORKER_LOST_MS]
    if live:
        slots, busy = sum(w.slots for w in live), sum(w.busy for w in live)
        yield good("workers", f"{len(live)} live, {busy} of {slots} slots busy")
    else:
        yield warning("workers", "none is running", "ferryman worker --queue default --handlers …")
    known = {(queue, kind) for worker in live for queue in worker.queues for kind in worker.types}
    for waiting in seen.waiting:
        if (waiting.queue, waiting.type) not in known:
            yield warning(
                "workers",
                f'none on queue {waiting.queue} knows type "{waiting.type}": {waiting.jobs} jobs wait, '
                f"the oldest {shown(waiting.oldest_ms)}",
                f"ferryman worker --queue {waiting.queue} --handlers …",
            )


def _queues(seen: Inspection) -> Iterator[Finding]:
    for queue in seen.queues:
        if queue.waiting >= queue.max_waiting:
            yield warning(
                "queues",
                f"{queue.name} is full: {queue.waiting} jobs wait",
                f"ferryman queues set {queue.name} maxBacklog=…, or more workers",
            )
        if queue.paused:
            yield warning("queues", f"{queue.name} is paused", f"ferryman queues resume {queue.name}")
    if seen.queues:
        yield good("queues", f"{len(seen.queues)} queues, {sum(q.waiting for q in seen.queues)} jobs wait")


async def _dispatcher(environment: Environment) -> list[Finding]:
    try:
        seen = await inspect_dispatcher(environment.require(v.REDIS_URL))
    except SettingsError as error:
        return [problem("Redis", str(error), "ferryman dev brings its own")]
    except DispatcherUnavailableError as error:
        return [
            problem(
                "Redis", f"{error}; jobs run on, slower", "check FERRYMAN_REDIS_URL and that the server runs"
            )
        ]
    if seen.get("evicting"):
        return [
            problem(
                "Redis",
                f"maxmemory-policy is {seen['maxmemory_policy']}: it may drop what is to be dispatched",
                "CONFIG SET maxmemory-policy noeviction",
            )
        ]
    return [good("Redis", f"{seen['version']}, maxmemory-policy {seen['maxmemory_policy']}")]


async def _api(environment: Environment) -> list[Finding]:
    try:
        url = environment.require(v.API_URL)
        async with Client(url, tries=1) as client:
            answer = await client.call("GET", "/readyz")
    except (SettingsError, ClientError) as error:
        return [problem("API", str(error), "ferryman api")]
    return [good("API", f"{url} is {answer['status']}, version {answer['version']}")]
