"""`ferryman jobs submit`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ferryman.cli.access import PERSON, add_tenant_option, with_client
from ferryman.cli.durations import duration_ms
from ferryman.cli.job_views import FINAL, job_path, show_job
from ferryman.cli.options import key_and_value
from ferryman.cli.parser import add_command
from ferryman.cli.terminal import put, put_document, say, status_text

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.client import Client

_WAIT_SLICE_MS: Final = 20_000


def register_submit(group: Commands) -> None:
    """Add the command."""
    parser = add_command(group, "submit", run_submit, "submit one job")
    parser.add_argument("type", metavar="TYPE")
    content = parser.add_mutually_exclusive_group()
    content.add_argument("--message", help='short form: the input becomes {"message": …}')
    content.add_argument("--input", metavar="JSON", help="the input, a JSON object")
    content.add_argument("--input-file", metavar="FILE", help="the input from a file, - for stdin")
    parser.add_argument("--queue", metavar="Q")
    parser.add_argument("--priority", type=int, metavar="N", help="0–100, higher runs sooner")
    parser.add_argument("--delay", type=duration_ms, metavar="DURATION", help="500ms, 90s, 10m, 2h or 1d")
    parser.add_argument("--run-at", metavar="INSTANT", help="for example 2026-01-31T08:00:00Z")
    parser.add_argument("--ttl", type=duration_ms, metavar="DURATION", help="not started later than this")
    parser.add_argument("--timeout", type=duration_ms, metavar="DURATION", help="of one attempt")
    parser.add_argument("--max-retries", type=int, metavar="N")
    parser.add_argument("--tag", action="append", default=[], metavar="T", help="may be repeated")
    parser.add_argument("--metadata", action="append", default=[], type=key_and_value, metavar="KEY=VALUE")
    parser.add_argument("--unique-key", metavar="KEY", help="at most one unfinished job with this key")
    parser.add_argument("--idempotency-key", metavar="KEY", help="the same key again stores nothing new")
    parser.add_argument(
        "--wait", action="store_true", help="until it has ended; exit code 1 if not completed"
    )
    add_tenant_option(parser)


def run_submit(arguments: argparse.Namespace) -> int:
    """Submit one job and, with --wait, see it end."""
    body = _submission(arguments)
    return with_client(arguments, PERSON, lambda client: _submit(client, arguments, body))


async def _submit(client: Client, arguments: argparse.Namespace, body: dict[str, Any]) -> int:
    headers = {"Idempotency-Key": arguments.idempotency_key} if arguments.idempotency_key else {}
    answer = await client.call("POST", "/api/jobs", body=body, headers=headers)
    if not arguments.wait:
        _show_submitted(arguments.output, answer)
        return 0
    say(f"{answer['jobId']} is {answer['status']}; waiting for its end")
    job = await wait_for_end(client, answer["jobId"])
    show_job(arguments.output, job)
    return 0 if job["status"] == "completed" else 1


def _show_submitted(output: str, answer: dict[str, Any]) -> None:
    if output == "json":
        put_document(answer)
        return
    put(answer["jobId"])
    twin = ", a duplicate: it was there already" if answer.get("duplicate") else ""
    say(f"{status_text(answer['status'])}{twin}  → ferryman jobs get {answer['jobId']}")


async def wait_for_end(client: Client, job_id: str) -> dict[str, Any]:
    """The job's document once it has ended, however long that takes."""
    while True:
        job: dict[str, Any] = await client.call(
            "GET", f"{job_path(job_id)}/wait",
            params={"timeoutMs": _WAIT_SLICE_MS}, timeout=_WAIT_SLICE_MS / 1_000 + 10,
        )  # fmt: skip
        if job["status"] in FINAL:
            return job


def _submission(arguments: argparse.Namespace) -> dict[str, Any]:
    fields = {
        "type": arguments.type,
        "message": arguments.message,
        "input": _input(arguments),
        "queue": arguments.queue,
        "priority": arguments.priority,
        "delayMs": arguments.delay,
        "runAt": arguments.run_at,
        "ttlMs": arguments.ttl,
        "timeoutMs": arguments.timeout,
        "maxRetries": arguments.max_retries,
        "tags": arguments.tag or None,
        "metadata": dict(arguments.metadata) or None,
        "uniqueKey": arguments.unique_key,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _input(arguments: argparse.Namespace) -> Any:
    from ferryman.cli.failures import CommandError

    if arguments.input_file == "-":
        text, source = sys.stdin.read(), "stdin"
    elif arguments.input_file:
        text, source = Path(arguments.input_file).read_text(encoding="utf-8"), arguments.input_file
    elif arguments.input is not None:
        text, source = arguments.input, "--input"
    else:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(
            f"{source} is no JSON: {error}", 'It takes an object, such as {"n": 1}.', code=2
        ) from None
