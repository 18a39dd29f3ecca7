"""The entry of `ferryman`: find the command, run it, turn what goes wrong into a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ferryman.cli import (
    dead_letters,
    demo,
    dev,
    doctor,
    grants,
    jobs,
    processes,
    queues,
    tokens,
    upkeep,
    webhooks,
    workers,
)
from ferryman.cli.parser import Parser, top_parser
from ferryman.cli.terminal import put

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Answers the exit code: 0 done, 1 failed, 2 wrong usage, 3 service unreachable."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        put(f"ferryman {_version()}")
        return EXIT_DONE
    if arguments.command is None:
        parser.error("which command?")
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has enough. Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except Exception as error:
        if arguments.debug:
            raise
        from ferryman.cli.failures import report

        return report(error)


def build_parser() -> Parser:
    """The whole command line. Fast: `ferryman --help` loads no library."""
    parser = top_parser()
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    groups = (
        demo, dev, processes, doctor, jobs, queues, workers, dead_letters, webhooks, upkeep, grants, tokens,
    )  # fmt: skip
    for group in groups:
        group.register(commands)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return version("ferryman")


if __name__ == "__main__":
    sys.exit(main())
