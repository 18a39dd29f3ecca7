"""Options that several commands share, and how their text is read."""

from __future__ import annotations

import argparse
from typing import Any

from ferryman.cli.access import add_tenant_option


def add_job_filters(parser: argparse.ArgumentParser) -> None:
    """The filters of a list of jobs: alternatives inside one, all of them together."""
    for option, name in (("status", "STATUS"), ("type", "TYPE"), ("queue", "QUEUE"), ("tag", "TAG")):
        parser.add_argument(f"--{option}", action="append", default=[], metavar=name, help="may be repeated")
    parser.add_argument("--user", type=int, metavar="N", help="jobs of this user")
    parser.add_argument(
        "--metadata",
        action="append",
        default=[],
        type=key_and_value,
        metavar="KEY=VALUE",
        help="may be repeated",
    )
    parser.add_argument("--created-after", metavar="INSTANT", help="for example 2026-01-31T08:00:00Z")
    parser.add_argument("--created-before", metavar="INSTANT")
    add_tenant_option(parser)


def job_filter_params(arguments: argparse.Namespace) -> dict[str, Any]:
    """The filters as the API takes them."""
    return {
        "status": arguments.status,
        "type": arguments.type,
        "queue": arguments.queue,
        "tag": arguments.tag,
        "userId": arguments.user,
        "createdAfter": arguments.created_after,
        "createdBefore": arguments.created_before,
        **{f"metadata.{key}": value for key, value in arguments.metadata},
    }


def key_and_value(text: str) -> tuple[str, str]:
    """`KEY=VALUE` in two. Raises argparse.ArgumentTypeError."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def count(text: str) -> int:
    """A number of things to show or to move. Raises argparse.ArgumentTypeError."""
    if not text.isdigit() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 100000")
    return int(text)


def port(text: str) -> int:
    """A port, 0 for any free one. Raises argparse.ArgumentTypeError."""
    if not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


def queue_name(text: str) -> str:
    """A name that a queue may have. Raises argparse.ArgumentTypeError."""
    from ferryman.core.queues import is_queue_name

    if not is_queue_name(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no queue's name: 1 to 63 of a-z 0-9 . _ -, the first a letter or digit"
        )
    return text
