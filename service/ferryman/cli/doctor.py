"""`ferryman doctor`: is everything there, and if not, what to do next."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ferryman.cli.parser import add_command
from ferryman.cli.terminal import put, put_document

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands


def register(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands, "doctor", run_doctor, "check configuration, PostgreSQL, Redis, clocks, workers and queues"
    )


def run_doctor(arguments: argparse.Namespace) -> int:
    """Check everything. Exit code 1 when there is a problem."""
    import asyncio

    from ferryman.cli.examination import examine
    from ferryman.settings import this_environment

    findings = asyncio.run(examine(this_environment()))
    problems = sum(finding.severity == "problem" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    if arguments.output == "json":
        put_document(
            {"problems": problems, "warnings": warnings, "findings": [f.document() for f in findings]}
        )
    else:
        for finding in findings:
            put(finding.line())
        put(f"{problems} problems, {warnings} warnings")
    return 1 if problems else 0
