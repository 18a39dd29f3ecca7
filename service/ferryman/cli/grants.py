"""`ferryman grants`: which database roles may call `ferryman.enqueue`, and for which tenant."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ferryman.cli.parser import add_command, add_group
from ferryman.cli.terminal import put_document, put_table, say

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands


def register(commands: Commands) -> None:
    """Add the commands."""
    group = add_group(commands, "grants", "say which database roles submit by SQL, and for which tenant")
    add = add_command(group, "add", run_add, "let a database role call ferryman.enqueue for one tenant")
    add.add_argument("db_role", metavar="DB_ROLE", help="the role that the other application logs in as")
    add.add_argument("--tenant", required=True, metavar="T")
    add_command(group, "list", run_list, "list the grants")
    remove = add_command(group, "remove", run_remove, "take a role its tenant and its right to call")
    remove.add_argument("db_role", metavar="DB_ROLE")


def run_add(arguments: argparse.Namespace) -> int:
    """Grant."""
    import asyncio

    from ferryman.wiring import add_grant

    asyncio.run(add_grant(_url(), arguments.db_role, arguments.tenant))
    if arguments.output == "json":
        put_document({"dbRole": arguments.db_role, "tenantId": arguments.tenant})
    else:
        say(f"{arguments.db_role} submits for {arguments.tenant}: SELECT ferryman.enqueue('TYPE', '{{}}')")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Show all grants."""
    import asyncio

    import msgspec

    from ferryman.wiring import list_grants

    grants = [msgspec.to_builtins(grant) for grant in asyncio.run(list_grants(_url()))]
    if arguments.output == "json":
        put_document({"grants": grants})
    else:
        put_table(
            ["DB_ROLE", "TENANT", "SINCE", ""],
            [
                [g["dbRole"], g["tenantId"], g["grantedAt"], "" if g["exists"] else "the role is gone"]
                for g in grants
            ],
        )
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Take a grant back."""
    import asyncio

    from ferryman.wiring import remove_grant

    asyncio.run(remove_grant(_url(), arguments.db_role))
    if arguments.output == "json":
        put_document({"dbRole": arguments.db_role, "tenantId": None})
    else:
        say(f"{arguments.db_role} submits for nobody")
    return 0


def _url() -> str:
    from ferryman.settings import this_environment
    from ferryman.settings.processes import owner_database_url

    return owner_database_url(this_environment())
