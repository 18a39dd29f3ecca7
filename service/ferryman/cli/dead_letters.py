"""`ferryman dead-letters`: list, get, requeue, discard."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ferryman.cli.access import PERSON, add_tenant_option, with_client
from ferryman.cli.options import count
from ferryman.cli.parser import add_command, add_group
from ferryman.cli.terminal import put, put_document, put_fields, put_table, say

if TYPE_CHECKING:
    from ferryman.cli.parser import Commands
    from ferryman.client import Client

_FILTERS = (
    ("queue", "QUEUE", "queue"),
    ("type", "TYPE", "type"),
    ("error-class", "CLASS", "errorClass"),
    ("fingerprint", "HEX", "fingerprint"),
)
_HEADINGS = ("LETTER", "STATE", "TYPE", "QUEUE", "FAILED", "CLASS", "REASON", "MESSAGE")


def register(commands: Commands) -> None:
    """Add the group."""
    group = add_group(commands, "dead-letters", "see jobs that died, requeue or discard them")
    listing = add_command(group, "list", run_list, "list dead letters, newest first")
    for option, name, _ in _FILTERS:
        listing.add_argument(f"--{option}", metavar=name)
    listing.add_argument("--status", choices=("dead", "requeued", "discarded"), help="default: dead")
    listing.add_argument(
        "--limit", type=count, default=50, metavar="N", help="how many at most (50, up to 200)"
    )
    listing.add_argument("--cursor", help="go on where an earlier list ended")
    add_tenant_option(listing)
    getting = add_command(group, "get", run_get, "show one dead letter with its attempts")
    getting.add_argument("letter_id", metavar="LETTER")
    add_tenant_option(getting)
    for action, help in (
        ("requeue", "let the jobs of dead letters run again"),
        ("discard", "give dead letters up; they stay readable"),
    ):
        command = add_command(group, action, run_change, help)
        command.add_argument("letter_ids", metavar="LETTER", nargs="+")
        command.add_argument("--reason", help="why, for the audit, when the job is another user's")
        command.set_defaults(change=action)
        add_tenant_option(command)


def run_list(arguments: argparse.Namespace) -> int:
    """List dead letters."""
    params: dict[str, str | int | None] = {
        field: getattr(arguments, option.replace("-", "_")) for option, _, field in _FILTERS
    }
    params |= {"status": arguments.status, "limit": min(arguments.limit, 200), "cursor": arguments.cursor}
    answer = with_client(
        arguments, PERSON, lambda client: client.call("GET", "/api/dead-letters", params=params)
    )
    if arguments.output == "json":
        put_document(answer)
        return 0
    put_table(_HEADINGS, [letter_row(letter) for letter in answer["deadLetters"]])
    if answer.get("nextCursor"):
        say(f"There are more.  → ferryman dead-letters list --cursor {answer['nextCursor']}")
    return 0


def letter_row(letter: dict[str, Any]) -> tuple[object, ...]:
    """One line of a table of dead letters."""
    error = letter.get("error") or {}
    return (
        letter["deadLetterId"],
        letter["status"],
        letter["type"],
        letter["queue"],
        letter["failedAt"],
        error.get("class"),
        letter["reason"],
        error.get("message"),
    )


def letter_table(letters: list[dict[str, Any]]) -> None:
    """A table of dead letters."""
    put_table(_HEADINGS, [letter_row(letter) for letter in letters])


def run_get(arguments: argparse.Namespace) -> int:
    """Show one dead letter."""
    letter = with_client(arguments, PERSON, lambda client: client.call("GET", _path(arguments.letter_id)))
    if arguments.output == "json":
        put_document(letter)
        return 0
    put_fields([(name, _text(value)) for name, value in letter.items() if name != "attempts"])
    put("")
    put_table(
        ("ATT", "OUTCOME", "STARTED", "CLASS", "MESSAGE"),
        [
            (a.get("attempt"), a.get("outcome"), a.get("startedAt"), *_class_and_message(a.get("error")))
            for a in letter["attempts"]
        ],
    )
    return 0


def run_change(arguments: argparse.Namespace) -> int:
    """Requeue or discard dead letters, one after the other; the first refusal ends it."""
    return with_client(arguments, PERSON, lambda client: _change(client, arguments))


async def _change(client: Client, arguments: argparse.Namespace) -> int:
    headers = {"X-Override-Reason": arguments.reason} if arguments.reason else {}
    for letter_id in arguments.letter_ids:
        if arguments.change == "requeue":
            answer = await client.call("POST", f"{_path(letter_id)}/requeue", headers=headers)
        else:
            answer = await client.call("DELETE", _path(letter_id), headers=headers)
        if arguments.output == "json":
            put_document(answer)
        else:
            put(f"{letter_id}  {arguments.change}{'d' if arguments.change.endswith('e') else 'ed'}")
    return 0


def _class_and_message(error: dict[str, Any] | None) -> tuple[object, object]:
    return (error.get("class"), error.get("message")) if error else ("", "")


def _text(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _path(letter_id: str) -> str:
    return f"/api/dead-letters/{quote(letter_id, safe='')}"
