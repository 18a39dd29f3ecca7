"""`ferryman token`: a token for development."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from ferryman.cli.access import DEVELOPMENT_TENANT, DEVELOPMENT_USER
from ferryman.cli.durations import seconds
from ferryman.cli.parser import add_command
from ferryman.cli.terminal import put, put_document

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands

ROLES: Final = ("user", "admin", "platform", "service", "viewer")
_TTL_SECONDS: Final = 43_200


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "token", run_token, "make a token for development, signed with FERRYMAN_JWT_SECRET"
    )
    parser.add_argument(
        "--tenant", default=DEVELOPMENT_TENANT, metavar="T", help=f"default: {DEVELOPMENT_TENANT}"
    )
    parser.add_argument("--user", type=int, default=DEVELOPMENT_USER, metavar="N", help="default: 1")
    parser.add_argument(
        "--role", action="append", choices=ROLES, metavar="R", help="may be repeated; default: user"
    )
    parser.add_argument(
        "--ttl",
        type=seconds,
        default=_TTL_SECONDS,
        metavar="S",
        help="seconds, or 90s, 10m, 2h, 1d; default: 12h",
    )


def run_token(arguments: argparse.Namespace) -> int:
    """Print the token."""
    from ferryman.settings import this_environment
    from ferryman.settings.processes import signing_settings
    from ferryman.wiring import mint_token

    token = mint_token(
        signing_settings(this_environment()),
        arguments.tenant,
        arguments.user,
        arguments.role or ["user"],
        ttl_seconds=arguments.ttl,
    )
    if arguments.output == "json":
        put_document({"token": token, "expiresInSeconds": arguments.ttl})
    else:
        put(token)
    return 0
