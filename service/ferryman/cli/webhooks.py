"""`ferryman webhooks`: list, add, rotate, remove, deliveries."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ferryman.cli.access import PERSON, with_client
from ferryman.cli.options import count
from ferryman.cli.parser import add_command, add_group
from ferryman.cli.terminal import put, put_document, put_table, say

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands

_FILTERS = (
    ("event", "NAME", "events", "for example job.completed; may be repeated; default: every one"),
    ("queue", "NAME", "queues", "jobs of this queue; may be repeated"),
    ("type", "TYPE", "types", "jobs of this type; may be repeated"),
)


def register(commands: Commands) -> None:
    """Add the group."""
    group = add_group(commands, "webhooks", "let endpoints hear of what happens to jobs")
    add_command(group, "list", run_list, "list the tenant's endpoints")
    adding = add_command(group, "add", run_add, "add an endpoint; its secret is shown this once")
    adding.add_argument("url", metavar="URL")
    for option, name, _, help in _FILTERS:
        adding.add_argument(f"--{option}", action="append", default=[], metavar=name, help=help)
    for name, run, help in (
        ("rotate", run_rotate, "make a new secret; the one before it holds a day more"),
        ("remove", run_remove, "send nothing more to an endpoint"),
        ("deliveries", run_deliveries, "list what was sent to an endpoint or will be, the newest first"),
    ):
        command = add_command(group, name, run, help)
        command.add_argument("webhook", metavar="WEBHOOK")
        if name == "deliveries":
            command.add_argument("--limit", type=count, default=50, metavar="N", help="how many at most (50)")
            command.add_argument("--cursor", help="go on where an earlier list ended")


def run_list(arguments: argparse.Namespace) -> int:
    """List the endpoints."""
    answer = with_client(arguments, PERSON, lambda client: client.call("GET", "/api/webhooks"))
    if arguments.output == "json":
        put_document(answer)
        return 0
    headings = ("WEBHOOK", "STATE", "FAILURES", "URL", "EVENTS", "QUEUES", "TYPES")
    put_table(headings, [_row(webhook) for webhook in answer["webhooks"]])
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Add an endpoint."""
    body = {field: getattr(arguments, option) for option, _, field, _ in _FILTERS}
    body["url"] = arguments.url
    answer = with_client(arguments, PERSON, lambda client: client.call("POST", "/api/webhooks", body=body))
    return _show_secret(arguments, answer)


def run_rotate(arguments: argparse.Namespace) -> int:
    """Make a new secret."""
    path = f"{_path(arguments)}/rotate-secret"
    return _show_secret(arguments, with_client(arguments, PERSON, lambda client: client.call("POST", path)))


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove an endpoint."""
    with_client(arguments, PERSON, lambda client: client.call("DELETE", _path(arguments)))
    if arguments.output == "json":
        put_document({"webhookId": arguments.webhook})
    else:
        put(f"{arguments.webhook}  removed")
    return 0


def run_deliveries(arguments: argparse.Namespace) -> int:
    """List deliveries."""
    path = f"{_path(arguments)}/deliveries"
    params = {"limit": min(arguments.limit, 200), "cursor": arguments.cursor}
    answer = with_client(arguments, PERSON, lambda client: client.call("GET", path, params=params))
    if arguments.output == "json":
        put_document(answer)
        return 0
    headings = ("EVENT", "JOB", "STATUS", "ATTEMPTS", "ANSWER", "AT", "NEXT", "ERROR")
    fields = ("event", "jobId", "status", "attempts", "responseCode", "at", "nextAttemptAt", "error")
    put_table(headings, [[one[field] for field in fields] for one in answer["deliveries"]])
    if answer.get("nextCursor"):
        again = f"ferryman webhooks deliveries {arguments.webhook} --cursor {answer['nextCursor']}"
        say(f"There are more.  → {again}")
    return 0


def _path(arguments: argparse.Namespace) -> str:
    return f"/api/webhooks/{quote(arguments.webhook, safe='')}"


def _show_secret(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    if arguments.output == "json":
        put_document(answer)
    else:
        put(f"{answer['webhookId']}  {answer['secret']}")
        say("Keep the secret: it is not shown again.")
    return 0


def _row(webhook: dict[str, Any]) -> tuple[object, ...]:
    state = "enabled" if webhook["enabled"] else webhook["disabledReason"] or "disabled"
    lists = (", ".join(webhook[field]) or "every one" for field in ("events", "queues", "types"))
    return (webhook["webhookId"], state, webhook["failures"], webhook["url"], *lists)
