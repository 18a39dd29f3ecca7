"""`ferryman queues`: list, get, set, pause, resume, delete."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ferryman.cli.access import PERSON, with_client
from ferryman.cli.durations import duration_ms, shown
from ferryman.cli.parser import add_command, add_group
from ferryman.cli.terminal import put, put_document, put_fields, put_table

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.client import Client

Setting = tuple[tuple[str, ...], Any]


def register(commands: Commands) -> None:
    """Add the group."""
    group = add_group(commands, "queues", "see and change queues")
    add_command(group, "list", run_list, "list the queues with what waits and runs in them")
    for name, run, help in (
        ("get", run_get, "show a queue's settings and figures"),
        ("pause", run_change, "start no more jobs of a queue; submission goes on"),
        ("resume", run_change, "start jobs of a queue again"),
        ("delete", run_delete, "delete an empty queue"),
    ):
        command = add_command(group, name, run, help)
        command.add_argument("queue", metavar="QUEUE")
        command.set_defaults(change=name)
    setting = add_command(
        group, "set", run_set, "create a queue, or change settings of one",
        description="Creates a queue, or changes the given settings of one and keeps the others: "
        "`ferryman queues set emails maxSize=200 retry.maxRetries=5 types.invoice.timeoutMs=2m`. "
        "A setting without value (`maxConcurrency=`) takes its default again.",
    )  # fmt: skip
    setting.add_argument("queue", metavar="QUEUE")
    setting.add_argument("settings", metavar="SETTING=VALUE", nargs="*", type=setting_and_value)


def run_list(arguments: argparse.Namespace) -> int:
    """List the queues."""
    answer = with_client(arguments, PERSON, lambda client: client.call("GET", "/api/jobs/queue/status"))
    if arguments.output == "json":
        put_document(answer)
        return 0
    headings = (
        "QUEUE", "STATE", "PENDING", "SCHEDULED", "RETRYING", "RUNNING", "DEAD", "OLDEST", "LIMIT", "WORKERS"
    )  # fmt: skip
    put_table(headings, [_row(status) for status in answer["queues"]])
    return 0


def _row(status: dict[str, Any]) -> tuple[object, ...]:
    return (
        status["queue"],
        "paused" if status["paused"] else "asleep" if status.get("asleep") else "open",
        status["pending"],
        status["scheduled"],
        status["retrying"],
        status["running"],
        status["deadLetters"],
        _oldest(status),
        status["maxSize"] + status["maxBacklog"],
        (status.get("workers") or {}).get("count"),
    )


def run_get(arguments: argparse.Namespace) -> int:
    """Show a queue: its settings as JSON, or settings and figures."""
    settings, status = with_client(arguments, PERSON, lambda client: _look(client, arguments))
    if arguments.output == "json":
        put_document(settings)
        return 0
    queue = settings.pop("queue")
    put_fields(
        [("queue", queue), *_flat(settings), *((f"now: {name}", value) for name, value in _figures(status))]
    )
    return 0


async def _look(client: Client, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    settings = await client.call("GET", _path(arguments.queue))
    if arguments.output == "json":
        return settings, {}
    return settings, await client.call("GET", "/api/jobs/queue/status", params={"queue": arguments.queue})


def _figures(status: dict[str, Any]) -> list[tuple[str, object]]:
    workers = status.get("workers") or {}
    return [
        ("state", "paused" if status["paused"] else "open"),
        ("waiting", status["pending"] + status["scheduled"] + status["retrying"]),
        ("running", status["running"]),
        ("dead letters", status["deadLetters"]),
        ("oldest pending", _oldest(status)),
        (
            "workers",
            f"{workers.get('count', 0)}, {workers.get('busy', 0)} of {workers.get('slots', 0)} slots busy",
        ),
    ]


def _oldest(status: dict[str, Any]) -> str:
    return shown(status["oldestPendingAgeMs"]) if status["pending"] else ""


def run_set(arguments: argparse.Namespace) -> int:
    """Create a queue, or change some of its settings."""
    answer, created = with_client(arguments, PERSON, lambda client: _set(client, arguments))
    if arguments.output == "json":
        put_document(answer)
    else:
        put(f"{arguments.queue}  {'created' if created else 'changed'}")
    return 0


async def _set(client: Client, arguments: argparse.Namespace) -> tuple[Any, bool]:
    from ferryman.client import NotFoundError

    try:
        settings = await client.call("GET", _path(arguments.queue))
        created = False
    except NotFoundError:
        settings, created = {}, True
    for told in ("queue", "paused"):  # a pause that somebody else makes meanwhile stays
        settings.pop(told, None)
    for path, value in arguments.settings:
        _change(settings, path, value)
    return await client.call("PUT", _path(arguments.queue), body=settings), created


def run_change(arguments: argparse.Namespace) -> int:
    """Pause or resume a queue."""
    path = f"{_path(arguments.queue)}/{arguments.change}"
    answer = with_client(arguments, PERSON, lambda client: client.call("POST", path))
    if arguments.output == "json":
        put_document(answer)
    else:
        put(f"{arguments.queue}  {'paused' if arguments.change == 'pause' else 'open'}")
    return 0


def run_delete(arguments: argparse.Namespace) -> int:
    """Delete an empty queue."""
    answer = with_client(arguments, PERSON, lambda client: client.call("DELETE", _path(arguments.queue)))
    if arguments.output == "json":
        put_document(answer)
    else:
        put(f"{arguments.queue}  deleted")
    return 0


def setting_and_value(text: str) -> Setting:
    """`retry.maxRetries=5` as path and value; settings in …Ms take durations, too.

    Raises argparse.ArgumentTypeError.
    """
    name, equals, value = text.partition("=")
    path = tuple(name.split("."))
    if not equals or not all(path):
        raise argparse.ArgumentTypeError(f"{text!r} is not SETTING=VALUE, such as retry.maxRetries=5")
    if value == "":
        return path, None
    if path[-1].endswith("Ms") and not value.isdigit():
        return path, duration_ms(value)
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value


def _change(settings: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for name in parents:
        settings = settings.setdefault(name, {})
    if value is None:
        settings.pop(last, None)
    else:
        settings[last] = value


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for name, value in settings.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return pairs


def _path(queue: str) -> str:
    return f"/api/queues/{quote(queue, safe='')}"
