"""The course of the demonstration."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ferryman.cli.concurrently import both
from ferryman.cli.demonstration import plan
from ferryman.cli.demonstration.books import Books, close_books
from ferryman.cli.demonstration.view import View, viewing
from ferryman.cli.failures import CommandError
from ferryman.cli.stack import DEMO_HANDLERS, Stack, StackOptions
from ferryman.cli.stopping import cancelled_by_signals
from ferryman.cli.terminal import put, say
from ferryman.client import Client, ConflictError, Job
from ferryman.settings import environment_for_children
from ferryman.settings import variables as v

_WORKERS: Final = 2
_BULK: Final = 20
_INTERRUPTED: Final = 130
_LOOK_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 60.0
_LOG_LINES: Final = 15
_FOR_SERVERS: Final = (v.POSTGRES_BIN.name, v.REDIS_BIN.name)


async def demonstrate() -> int:
    """Run it. Answers the exit code: 0 when the books balance."""
    exit_code, environment = _INTERRUPTED, _environment()
    put("Ferryman demo: a real PostgreSQL, a real Redis, one API, two workers, all on 127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="ferryman-demo-") as folder:
        logs = Path(folder)
        options = StackOptions(port=0, workers=_WORKERS, handlers=DEMO_HANDLERS, log_dir=logs)
        with cancelled_by_signals() as interruption:
            stack = Stack(options, environment, tell=say, changed=lambda: None)
            interruption.hurry = stack.hurry
            try:
                async with stack:
                    exit_code = await _show(stack, is_embedded=v.REDIS_BIN.name not in environment)
            except CommandError:
                _show_logs(logs)
                raise
    if exit_code == 0:
        put("Next    make dev      the same stack, kept running")
    return exit_code


def _environment() -> Mapping[str, str]:
    """The demonstration is the same for everybody: what configures an installation is left out."""
    given = environment_for_children()
    return {n: value for n, value in given.items() if not n.startswith("FERRYMAN_") or n in _FOR_SERVERS}


async def _show(stack: Stack, *, is_embedded: bool) -> int:
    async with Client(stack.url, stack.token) as client:
        put(await _parts(client, "Valkey" if is_embedded else "Redis"))
        planned = plan.jobs()
        put(f"Submitting {len(planned)} jobs over REST: {plan.summary(planned)}")
        started = time.monotonic()
        acknowledged, jobs = await _run_jobs(client, planned)
        took = time.monotonic() - started
        books = await _settled_books(client, acknowledged, jobs)
    *lines, last = books.lines()
    for line in (*lines, f"{last}     Took {took:.1f} s"):
        put(line)
    if books.disagreements():
        raise CommandError("the books do not balance", *books.disagreements())
    return 0


async def _parts(client: Client, redis: str) -> str:
    ready = await client.call("GET", "/readyz")
    parts = ready["dependencies"]
    status = await client.call("GET", "/api/jobs/queue/status", params={"queue": "default"})
    workers = status["workers"]
    return "   ".join(
        (
            f"  ✓ PostgreSQL {parts['ledger']['details']['server']}",
            f"✓ {redis} {parts['dispatcher']['details']['version']}",
            f"✓ API {ready['status']}",
            f"✓ {workers['count']} workers, {workers['slots']} slots",
        )
    )


async def _run_jobs(client: Client, planned: list[dict[str, Any]]) -> tuple[int, list[Job]]:
    with viewing(len(planned)) as view:
        return await both(_submit(client, planned), _follow(client, view, len(planned)))


async def _submit(client: Client, planned: list[dict[str, Any]]) -> int:
    """One by one, as applications do, and the last twenty in one call. Answers how many were acknowledged."""
    for job in planned[:-_BULK]:
        await client.submit(**job)
    return len(planned) - _BULK + len(await client.submit_many(planned[-_BULK:]))


async def _follow(client: Client, view: View, total: int) -> list[Job]:
    """Show the jobs until all have ended; cancel the one that would not end."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        page = await client.list(tag=[plan.TAG], limit=200)
        view.show(page.jobs)
        if len(page.jobs) == total and all(job.has_ended for job in page.jobs):
            return page.jobs
        if time.monotonic() > deadline:
            open_jobs = [
                f"{job.job_id} ({job.type}) is {job.status}" for job in page.jobs if not job.has_ended
            ]
            raise CommandError(f"not every job has ended within {_PATIENCE_SECONDS:.0f} s", *open_jobs)
        if _rest_has_ended(page.jobs, total):
            await _cancel_endless(client, page.jobs)
        await asyncio.sleep(_LOOK_SECONDS)


def _rest_has_ended(jobs: list[Job], total: int) -> bool:
    return len(jobs) == total and all(job.has_ended or plan.is_endless(job.metadata) for job in jobs)


async def _cancel_endless(client: Client, jobs: list[Job]) -> None:
    for job in jobs:
        if plan.is_endless(job.metadata) and not job.has_ended:
            try:
                await client.cancel(job.job_id)
            except ConflictError:
                return  # it ended between the look and the call


async def _settled_books(client: Client, acknowledged: int, jobs: list[Job]) -> Books:
    """The books, once the workers have given their slots back to Redis."""
    deadline = time.monotonic() + 5.0
    while True:
        books = await close_books(client, acknowledged, jobs)
        if not books.unfinished or time.monotonic() > deadline:
            return books
        await asyncio.sleep(_LOOK_SECONDS)


def _show_logs(logs: Path) -> None:
    for log in sorted(logs.glob("*.log")):
        say(f"--- the last lines of {log.name}")
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]:
            say(line)
