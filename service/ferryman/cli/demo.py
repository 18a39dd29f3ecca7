"""`ferryman demo`: real jobs on a real pipeline, from nothing to the closing books."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ferryman.cli.parser import add_command

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    add_command(commands, "demo", run_demo, "see real jobs run, fail, retry and die on this machine")


def run_demo(arguments: argparse.Namespace) -> int:
    """Run the demonstration."""
    import asyncio

    from ferryman.cli.demonstration.run import demonstrate

    return asyncio.run(demonstrate())
