"""`ferryman workers`: list, drain, undrain."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ferryman.cli.access import PERSON, with_client
from ferryman.cli.parser import add_command, add_group
from ferryman.cli.terminal import put, put_document, put_table

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands


def register(commands: Commands) -> None:
    """Add the group."""
    group = add_group(commands, "workers", "see workers, and let them drain")
    add_command(group, "list", run_list, "list the workers")
    for name, method, help in (
        ("drain", "POST", "let a worker finish what it runs and claim nothing more"),
        ("undrain", "DELETE", "let a worker claim jobs again"),
    ):
        command = add_command(group, name, run_drain, help)
        command.add_argument("worker", metavar="WORKER")
        command.set_defaults(method=method)


def run_list(arguments: argparse.Namespace) -> int:
    """List the workers."""
    answer = with_client(arguments, PERSON, lambda client: client.call("GET", "/api/workers"))
    if arguments.output == "json":
        put_document(answer)
        return 0
    headings = ("WORKER", "STATE", "BUSY", "SLOTS", "POD", "QUEUES", "TYPES", "HEARTBEAT")
    put_table(headings, [_row(worker) for worker in answer["workers"]])
    return 0


def run_drain(arguments: argparse.Namespace) -> int:
    """Ask a worker to drain, or take it back."""
    path = f"/api/workers/{quote(arguments.worker, safe='')}/drain"
    answer = with_client(arguments, PERSON, lambda client: client.call(arguments.method, path))
    if arguments.output == "json":
        put_document(answer)
    else:
        put(f"{arguments.worker}  {'drains' if answer['drainRequested'] else 'claims jobs again'}")
    return 0


def _row(worker: dict[str, Any]) -> tuple[object, ...]:
    asked = worker["drainRequested"] and worker["state"] == "running"
    return (
        worker["workerId"],
        "asked to drain" if asked else worker["state"],
        worker["busy"],
        worker["slots"],
        worker["pod"],
        ", ".join(worker["queues"]),
        ", ".join(worker["types"]),
        worker["lastHeartbeatAt"],
    )
