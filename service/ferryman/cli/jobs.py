"""`ferryman jobs`: submit, list, get, explain, watch, cancel, retry."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from ferryman.cli.access import PERSON, add_tenant_option, with_client
from ferryman.cli.job_views import HEADINGS, job_path, job_row, show_explanation, show_job
from ferryman.cli.options import add_job_filters, count, job_filter_params
from ferryman.cli.parser import add_command, add_group
from ferryman.cli.submit import register_submit
from ferryman.cli.terminal import put, put_document, put_table, say, status_text
from ferryman.cli.watch import register_watch

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.client import Client

_PAGE: Final = 200


def register(commands: Commands) -> None:
    """Add the group."""
    group = add_group(commands, "jobs", "submit jobs and see what becomes of them")
    register_submit(group)
    listing = add_command(group, "list", run_list, "list jobs, newest first")
    add_job_filters(listing)
    listing.add_argument("--limit", type=count, default=50, metavar="N", help="how many at most (50)")
    listing.add_argument("--cursor", help="go on where an earlier list ended")
    getting = add_command(group, "get", run_get, "show one job with its attempts")
    getting.add_argument("job_id", metavar="JOB")
    add_tenant_option(getting)
    explaining = add_command(group, "explain", run_explain, "say why a job is not running, and when it may")
    explaining.add_argument("job_id", metavar="JOB")
    add_tenant_option(explaining)
    register_watch(group)
    for name, help in (
        ("cancel", "end jobs: waiting ones at once, running ones within two heartbeats"),
        ("retry", "run retrying jobs now, requeue dead-lettered ones"),
    ):
        command = add_command(group, name, run_change, help)
        command.add_argument("job_ids", metavar="JOB", nargs="+")
        command.add_argument("--reason", help="why, for the audit, when the job is another user's")
        command.set_defaults(change=name)
        add_tenant_option(command)


def run_list(arguments: argparse.Namespace) -> int:
    """List jobs over as many pages as the limit takes."""
    answer = with_client(arguments, PERSON, lambda client: _list(client, arguments))
    if arguments.output == "json":
        put_document(answer)
        return 0
    put_table(HEADINGS, [job_row(job) for job in answer["jobs"]])
    if answer.get("nextCursor"):
        say(f"There are more.  → ferryman jobs list --cursor {answer['nextCursor']}")
    return 0


async def _list(client: Client, arguments: argparse.Namespace) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = []
    cursor = arguments.cursor
    while True:
        wanted = min(_PAGE, arguments.limit - len(jobs))
        params = {**job_filter_params(arguments), "limit": wanted, "cursor": cursor}
        page = await client.call("GET", "/api/jobs", params=params)
        jobs += page["jobs"]
        cursor = page.get("nextCursor")
        if cursor is None or len(jobs) >= arguments.limit:
            return {**page, "jobs": jobs}


def run_get(arguments: argparse.Namespace) -> int:
    """Show one job."""
    path = job_path(arguments.job_id)
    show_job(arguments.output, with_client(arguments, PERSON, lambda client: client.call("GET", path)))
    return 0


def run_explain(arguments: argparse.Namespace) -> int:
    """Say why a job is not running."""
    path = f"{job_path(arguments.job_id)}/explain"
    answer = with_client(arguments, PERSON, lambda client: client.call("GET", path))
    show_explanation(arguments.output, answer)
    return 0


def run_change(arguments: argparse.Namespace) -> int:
    """Cancel or retry jobs, one after the other; the first refusal ends it."""
    return with_client(arguments, PERSON, lambda client: _change(client, arguments))


async def _change(client: Client, arguments: argparse.Namespace) -> int:
    headers = {"X-Override-Reason": arguments.reason} if arguments.reason else {}
    for job_id in arguments.job_ids:
        answer = await client.call("POST", f"{job_path(job_id)}/{arguments.change}", headers=headers)
        if arguments.output == "json":
            put_document(answer)
        else:
            put(f"{job_id}  {status_text((answer or {}).get('status', 'accepted'))}")
    return 0
