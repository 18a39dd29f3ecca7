"""`ferryman jobs watch`: a live view, or a line for each change where nothing can be drawn."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ferryman.cli.access import PERSON, with_client
from ferryman.cli.job_views import FINAL, HEADINGS, job_path, job_row, note
from ferryman.cli.options import add_job_filters, count, job_filter_params
from ferryman.cli.parser import add_command
from ferryman.cli.terminal import console, drawn_table, draws, harmless, put, put_document, status_text

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.client import Client

_EVERY_SECONDS: Final = 1.0

Show = Callable[[list[dict[str, Any]]], None]


def register_watch(group: Commands) -> None:
    """Add the command."""
    parser = add_command(
        group, "watch", run_watch, "follow jobs until Ctrl+C, or one job to its end",
        description="Follows the newest jobs that match, or one job until it has ended. Ctrl+C leaves the "
        "last state on the terminal and ends with exit code 0.",
    )  # fmt: skip
    parser.add_argument("job_id", metavar="JOB", nargs="?")
    add_job_filters(parser)
    parser.add_argument(
        "--limit", type=count, default=20, metavar="N", help="how many at most (20, up to 200)"
    )


def run_watch(arguments: argparse.Namespace) -> int:
    """Poll and show until the job has ended or the person has seen enough."""
    with contextlib.suppress(KeyboardInterrupt):
        with_client(arguments, PERSON, lambda client: _watch(client, arguments))
    return 0


async def _watch(client: Client, arguments: argparse.Namespace) -> None:
    if arguments.output == "table" and draws(sys.stdout):
        from rich.live import Live

        with Live(console=console(), auto_refresh=False) as live:
            await _poll(client, arguments, lambda jobs: live.update(_drawn(jobs), refresh=True))
    else:
        await _poll(client, arguments, _Changes(as_json=arguments.output == "json").show)


async def _poll(client: Client, arguments: argparse.Namespace, show: Show) -> None:
    import asyncio

    while True:
        jobs = await _look(client, arguments)
        show(jobs)
        if arguments.job_id and jobs[0]["status"] in FINAL:
            return
        await asyncio.sleep(_EVERY_SECONDS)


async def _look(client: Client, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    if arguments.job_id:
        return [await client.call("GET", job_path(arguments.job_id))]
    params = {**job_filter_params(arguments), "limit": min(arguments.limit, 200)}
    page = await client.call("GET", "/api/jobs", params=params)
    return list(page["jobs"])


def _drawn(jobs: list[dict[str, Any]]) -> Any:
    cells = [[harmless(str(value)) for value in job_row(job)] for job in jobs]
    return drawn_table(HEADINGS, cells)


class _Changes:
    """Prints a job whenever its status, attempt or note is another than before."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._seen: dict[str, tuple[object, ...]] = {}

    def show(self, jobs: list[dict[str, Any]]) -> None:
        for job in reversed(jobs):
            state = (job["status"], job["attempt"], note(job))
            if self._seen.get(job["jobId"]) == state:
                continue
            self._seen[job["jobId"]] = state
            if self._as_json:
                put_document(job)
            else:
                line = (
                    f"{job['jobId']}  {status_text(job['status'])}  {job['type']}  attempt {job['attempt']}"
                )
                put(harmless(f"{line}  {note(job)}".rstrip()))
