"""`ferryman retention` and `ferryman reconcile-dead-letter`, which CronJobs run with a service token."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any, Final

from ferryman.cli.access import SERVICE, add_tenant_option, with_client
from ferryman.cli.dead_letters import letter_table
from ferryman.cli.durations import duration_ms
from ferryman.cli.options import count
from ferryman.cli.parser import add_command
from ferryman.cli.terminal import draws, put_document, put_fields, say

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.client import Client

# Both calls go through many rows in one request.
_PATIENCE_SECONDS: Final = 600.0
# What `ferryman reconcile-dead-letter` takes, and the field of the API's body for it.
_FILTERS: Final = {
    "queue": "queue",
    "type": "type",
    "error_class": "errorClass",
    "fingerprint": "fingerprint",
    "older_than": "olderThanMs",
    "newer_than": "newerThanMs",
    "max_redrives": "maxRedrives",
}
_MANNERS: Final = {"batch_size": "batchSize", "rate": "ratePerSecond", "reset_retries": "resetRetries"}


def register(commands: Commands) -> None:
    """Add both commands."""
    retention = add_command(
        commands, "retention", run_retention, "delete what is older than the queues' retention policies"
    )
    retention.add_argument("--queue", metavar="Q", help="only this one; default: all")
    retention.add_argument("--dry-run", action="store_true", help="only count")
    add_tenant_option(retention)
    _register_reconcile(commands)


def _register_reconcile(commands: Commands) -> None:
    parser = add_command(
        commands, "reconcile-dead-letter", run_reconcile, "requeue dead letters that match, with a preview",
        description="Requeues dead letters. With --dry-run it shows what matches and the command that moves "
        "exactly that; with --digest it does so; with neither it moves what matches now.",
    )  # fmt: skip
    parser.add_argument("--queue", metavar="Q")
    parser.add_argument("--type", metavar="TYPE")
    parser.add_argument("--error-class", action="append", metavar="CLASS", help="may be repeated")
    parser.add_argument("--fingerprint", metavar="HEX")
    parser.add_argument(
        "--older-than", type=duration_ms, metavar="DURATION", help="500ms, 90s, 10m, 2h or 1d"
    )
    parser.add_argument("--newer-than", type=duration_ms, metavar="DURATION")
    parser.add_argument("--max-redrives", type=int, metavar="N", help="leave what was requeued N times")
    parser.add_argument("--batch-size", type=count, metavar="N", help="move N at most")
    parser.add_argument("--rate", type=float, metavar="N", help="let N a second become ready")
    parser.add_argument(
        "--reset-retries", action=argparse.BooleanOptionalAction, help="whether retries count from 0 again"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="move nothing, show what would")
    mode.add_argument("--digest", metavar="D", help="of an earlier dry run: move exactly what it showed")
    add_tenant_option(parser)


def run_retention(arguments: argparse.Namespace) -> int:
    """Apply the retention policies."""
    body = {"queue": arguments.queue, "dryRun": arguments.dry_run}
    answer = _post(arguments, "/api/jobs/retention", body, "Applying the retention policies")
    if arguments.output == "json":
        put_document(answer)
        return 0
    say("Would be deleted:" if arguments.dry_run else "Deleted:")
    labels = ("completed", "cancelled", "expired", "deadLetters", "audit")
    put_fields([(label, str(answer[label])) for label in labels])
    return 0


def run_reconcile(arguments: argparse.Namespace) -> int:
    """Preview or move dead letters."""
    fields = _FILTERS | _MANNERS
    body = {field: getattr(arguments, name) for name, field in fields.items()}
    body |= {"dryRun": arguments.dry_run, "digest": arguments.digest}
    answer = _post(arguments, "/api/jobs/reconcile-dead-letter", body, "Reconciling dead letters")
    if arguments.output == "json":
        put_document(answer)
    elif arguments.dry_run:
        _show_preview(arguments, answer)
    else:
        put_fields([(name, str(answer[name])) for name in ("requeued", "skipped", "remaining")])
    return 0


def _show_preview(arguments: argparse.Namespace, answer: dict[str, Any]) -> None:
    letter_table(answer["sample"])
    put_fields([("matched", str(answer["matched"])), ("digest", answer["digest"])])
    if answer["matched"]:
        say(f"To move exactly these:  → {apply_command(arguments, answer['digest'])}")


def apply_command(arguments: argparse.Namespace, digest: str) -> str:
    """The command line that applies a dry run."""
    words = ["ferryman", "reconcile-dead-letter", "--digest", digest]
    for name in (*_FILTERS, *_MANNERS, "tenant"):
        value = getattr(arguments, name)
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, list):
            words += [word for item in value for word in (option, item)]
        elif value is not None:
            words += [option, f"{value}ms" if name in ("older_than", "newer_than") else str(value)]
    return shlex.join(words)


def _post(arguments: argparse.Namespace, path: str, body: dict[str, Any], doing: str) -> dict[str, Any]:
    given = {name: value for name, value in body.items() if value is not None}

    async def work(client: Client) -> dict[str, Any]:
        answer: dict[str, Any] = await client.call("POST", path, body=given, timeout=_PATIENCE_SECONDS)
        return answer

    if not draws(sys.stderr):
        return with_client(arguments, SERVICE, work)
    from rich.console import Console

    with Console(stderr=True).status(f"{doing} …"):
        return with_client(arguments, SERVICE, work)
