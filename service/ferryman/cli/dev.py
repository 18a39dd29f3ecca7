"""`ferryman dev`: the whole pipeline on this machine, until Ctrl+C."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ferryman.cli.options import port, queue_name
from ferryman.cli.parser import add_command
from ferryman.cli.stopping import cancelled_by_signals
from ferryman.cli.terminal import put, say

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.cli.stack import Stack, StackOptions

_DEFAULT_PORT: Final = 3_101
_MOST_WORKERS: Final = 64


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "dev", run_dev, "run the whole pipeline on this machine, until Ctrl+C",
        description="Starts a real PostgreSQL and a real Valkey, an API and workers on 127.0.0.1, starts "
        "again what ends, and stops everything in good order on Ctrl+C.",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=port, default=_DEFAULT_PORT, metavar="P", help="of the API (3101); 0 takes a free one"
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="keep everything here; default: forget it"
    )
    parser.add_argument(
        "--handlers", metavar="MODULE", help="module with a Registry; default: demonstrations"
    )
    parser.add_argument("--workers", type=_workers, default=2, metavar="N", help="worker processes (2)")
    parser.add_argument(
        "--queue",
        action="append",
        default=[],
        type=queue_name,
        metavar="NAME",
        help="another queue, may be repeated",
    )
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="JSON for scripts, once all is up")


def _workers(text: str) -> int:
    if not text.isdigit() or int(text) > _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {_MOST_WORKERS}")
    return int(text)


def run_dev(arguments: argparse.Namespace) -> int:
    """Run the stack until SIGINT or SIGTERM."""
    import asyncio

    from ferryman.cli.stack import StackOptions

    options = StackOptions(
        port=arguments.port,
        workers=arguments.workers,
        handlers=arguments.handlers,
        queues=arguments.queue,
        data_dir=arguments.data_dir.absolute() if arguments.data_dir else None,
    )
    return asyncio.run(_run(options, arguments.ready_file))


async def _run(options: StackOptions, ready_path: Path | None) -> int:
    import asyncio

    from ferryman.cli.ready_file import ReadyFile
    from ferryman.cli.stack import Stack
    from ferryman.settings import environment_for_children

    ready = ReadyFile(ready_path)
    ready.prepare()
    started = time.monotonic()
    say("Starting PostgreSQL, Redis, one API and workers on 127.0.0.1 …")
    with cancelled_by_signals() as interruption:
        stack = Stack(
            options, environment_for_children(), tell=say, changed=lambda: ready.write(stack.description())
        )
        interruption.hurry = stack.hurry
        try:
            async with stack:
                ready.write(stack.description())
                _introduce(stack, options)
                say(f"Ready in {time.monotonic() - started:.1f} s. Ctrl+C stops and drains.")
                await asyncio.Event().wait()
        finally:
            ready.remove()
    return 0


def _introduce(stack: Stack, options: StackOptions) -> None:
    kept = (
        f"kept in {options.data_dir}" if options.data_dir else "forgotten at the end; --data-dir DIR keeps it"
    )
    put(
        f"  API         {stack.url}/api      docs at {stack.url}/docs\n"
        f"  Database    {stack.postgres.service_url}      {kept}\n"
        f"  Redis       {stack.redis.url}\n"
        f"  Queues      {', '.join(stack.queues)}\n"
        f"  Token       {stack.token}\n"
        "              (user 1 and admin of tenant acme, platform; 12 h; for development only)\n"
        f"  Try         curl -X POST {stack.url}/api/jobs -H 'Authorization: Bearer {stack.token}' "
        "-H 'Content-Type: application/json' "
        """-d '{"message":"Test enterprise job pipeline","type":"chat"}'"""
    )
