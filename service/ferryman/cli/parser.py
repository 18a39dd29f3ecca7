"""The parser: options that every command has, and how wrong usage is told."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["Parser"]

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """argparse with our voice: one line that says what is wrong, one that says where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ferryman: {message}\n  → {self.prog} --help\n")


def top_parser() -> Parser:
    """The parser of `ferryman` itself, still without commands."""
    parser = Parser(
        prog="ferryman",
        description="An enterprise job pipeline: REST in, arq workers, PostgreSQL as the ledger, "
        "Redis as the dispatcher.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 service unreachable. "
        "Settings come from FERRYMAN_* variables; docs/cli.md lists them.",
        allow_abbrev=False,
    )
    _add_common(parser, output="table", debug=False)
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    return parser


def add_command(commands: Commands, name: str, run: Run, help: str, *, description: str = "") -> Parser:
    """A command that `run` carries out. It takes the common options, too."""
    parser = commands.add_parser(
        name, help=help, description=description or f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
    )
    # Suppressed, so that what stands before the command is not undone by a default behind it.
    _add_common(parser, output=argparse.SUPPRESS, debug=argparse.SUPPRESS)
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, help: str) -> Commands:
    """A command that only has subcommands."""
    parser = commands.add_parser(
        name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False
    )
    _add_common(parser, output=argparse.SUPPRESS, debug=argparse.SUPPRESS)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _add_common(parser: argparse.ArgumentParser, *, output: object, debug: object) -> None:
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default=output,
        help="table (the default) or json: the API's answer as it came",
    )  # fmt: skip
    parser.add_argument("--debug", action="store_true", default=debug, help="show tracebacks of errors")
