"""`ferryman api`, `worker` and `migrate`: the processes of an installation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ferryman.cli.options import port, queue_name
from ferryman.cli.parser import add_command
from ferryman.cli.stopping import stop_at_end_of_stdin, stop_event
from ferryman.cli.terminal import complain, put, put_document, say

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands, Parser
    from ferryman.ledger.migrate import SchemaState
    from ferryman.settings import Environment


def register(commands: Commands) -> None:
    """Add the three commands."""
    api = add_command(commands, "api", run_api, "serve the REST API")
    api.add_argument("--host", metavar="H", help="address to listen on (FERRYMAN_HOST; 127.0.0.1)")
    api.add_argument("--port", type=port, metavar="P", help="port to listen on (FERRYMAN_PORT; 3101)")
    _add_end_with_stdin(api)
    worker = add_command(commands, "worker", run_worker, "run jobs of one or more queues")
    worker.add_argument(
        "--queue", action="append", type=queue_name, metavar="NAME", help="may be repeated; default: default"
    )
    worker.add_argument("--concurrency", type=concurrency, metavar="N", help="jobs at a time (10)")
    source = worker.add_mutually_exclusive_group()
    source.add_argument("--handlers", metavar="MODULE", help="module with a Registry (FERRYMAN_HANDLERS)")
    source.add_argument(
        "--settings", metavar="PATH", help="an arq settings class, such as shop.WorkerSettings"
    )
    _add_end_with_stdin(worker)
    migrate = add_command(
        commands, "migrate", run_migrate, "bring the database to this version's schema",
        description="Applies the migrations as FERRYMAN_OWNER_DATABASE_URL, or FERRYMAN_DATABASE_URL where "
        "that is not set. Safe to run several times and at once.",
    )  # fmt: skip
    migrate.add_argument(
        "--check", action="store_true", help="change nothing; exit code 1 when something is due"
    )


def concurrency(text: str) -> int:
    """Jobs at a time. Raises argparse.ArgumentTypeError."""
    if not text.isdigit() or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 1000")
    return int(text)


def run_api(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM."""
    from ferryman.settings.processes import api_settings
    from ferryman.wiring import serve_api

    environment = _begin()
    settings = api_settings(environment, host=arguments.host, port=arguments.port)
    _end_with_stdin(arguments, settings.grace_seconds)

    async def serve() -> int:
        await serve_api(settings, stop_event())
        return 0

    return _run(serve())


def run_worker(arguments: argparse.Namespace) -> int:
    """Work until SIGTERM."""
    from ferryman.core.queues import is_system
    from ferryman.settings.processes import worker_settings
    from ferryman.wiring import run_pipeline_worker

    # The handlers are found from where the command is run, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    environment = _begin()
    queues = arguments.queue or ["default"]
    settings = worker_settings(
        environment,
        handlers=arguments.handlers,
        arq_settings=arguments.settings,
        has_own=all(is_system(queue) for queue in queues),
    )
    _end_with_stdin(arguments, settings.grace_seconds)
    return _run(run_pipeline_worker(settings, queues, arguments.concurrency))


def run_migrate(arguments: argparse.Namespace) -> int:
    """Apply the migrations, or say what is due."""
    import asyncio

    from ferryman.settings import this_environment
    from ferryman.settings.processes import owner_database_url, service_login
    from ferryman.wiring import check_ledger, migrate_ledger

    environment = this_environment()
    url = owner_database_url(environment)
    if arguments.check:
        return _show_state(arguments.output, asyncio.run(check_ledger(url)))
    done = asyncio.run(migrate_ledger(url, service_login=service_login(environment), progress=say))
    if arguments.output == "json":
        put_document({"applied": done})
    else:
        put(f"{len(done)} migrations applied" if done else "the schema is up to date")
    return 0


def _show_state(output: str, state: SchemaState) -> int:
    if output == "json":
        import msgspec

        put_document(msgspec.to_builtins(state))
    else:
        for key in state.pending:
            put(f"{key}  due")
        for key in state.changed:
            put(f"{key}  was changed after it was applied")
        for key in state.unknown:
            put(f"{key}  of a newer version")
        put(f"{len(state.applied)} applied, {len(state.pending)} due")
    return 1 if state.pending or state.changed else 0


def _begin() -> Environment:
    """What each process does first: logs, a word on unknown variables, a failpoint for tests."""
    from ferryman import failpoints
    from ferryman.settings import this_environment
    from ferryman.settings import variables as v
    from ferryman.settings.processes import log_settings, secrets_of
    from ferryman.telemetry import logs

    environment = this_environment()
    settings = log_settings(environment)
    logs.configure(settings.form, settings.level, secrets=secrets_of(environment))
    for name, meant in environment.unknown():
        complain(f"{name} means nothing here" + (f"; did you mean {meant}?" if meant else ""))
    failpoint = environment.get(v.FAILPOINT)
    if failpoint is not None:
        failpoints.arm(failpoint)
    return environment


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop, which spends half as much on a request as asyncio's own loop."""
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _add_end_with_stdin(parser: Parser) -> None:
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)


def _end_with_stdin(arguments: argparse.Namespace, grace_seconds: float) -> None:
    if arguments.end_with_stdin:
        stop_at_end_of_stdin(grace_seconds)
