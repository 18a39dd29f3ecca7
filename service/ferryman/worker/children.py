"""Jobs that a handler submits: stored in the statement that completes their parent, or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from ferryman.core.failures import ValidationError
from ferryman.core.ids import uuid7
from ferryman.core.queues import (
    QUEUE_NAME_PATTERN,
    DelayMs,
    Retries,
    TimeoutMs,
    VisibilityMs,
    is_type,
)
from ferryman.lifecycle.orders import Order
from ferryman.worker.context import ChildId
from ferryman.worker.results import checked

MAX_CHILDREN: Final = 1_000
MAX_AHEAD_MS: Final = 315_360_000_000
MAX_METADATA_BYTES: Final = 8_192

_Key = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
_Instant = Annotated[datetime, Meta(tz=True)]


class ChildOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said of a child; the bounds are those of a submission."""

    queue: Annotated[str, Meta(pattern=QUEUE_NAME_PATTERN)] | None = None
    priority: Annotated[int, Meta(ge=0, le=100)] = 0
    max_retries: Retries | None = None
    retry_delay_ms: DelayMs | None = None
    visibility_timeout_ms: VisibilityMs | None = None
    timeout_ms: TimeoutMs | None = None
    delay_ms: Annotated[int, Meta(ge=0, le=31_536_000_000)] | None = None
    run_at: _Instant | None = None
    ttl_ms: Annotated[int, Meta(ge=1, le=MAX_AHEAD_MS)] | None = None
    expires_at: _Instant | None = None
    tags: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=32)] = []
    metadata: Annotated[dict[_Key, str | int | float | bool], Meta(max_length=32)] = {}
    unique_key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class Child(Struct, frozen=True):
    """A child and the id that its parent was told."""

    id: ChildId
    order: Order


def parse_child(
    job_type: str, document: bytes, given: Mapping[str, object], *, queue: str, now_ms: int, count: int
) -> Child:
    """A child from what the handler said. Raises ValidationError naming the option that does not fit."""
    if count >= MAX_CHILDREN:
        raise ValidationError(f"an attempt submits at most {MAX_CHILDREN:,} jobs")
    check_type(job_type)
    options = _options(given)
    order = Order(
        type=job_type,
        queue=options.queue or queue,
        priority=options.priority,
        input=document,
        metadata=checked("metadata", options.metadata, MAX_METADATA_BYTES),
        tags=options.tags,
        unique_key=options.unique_key,
        max_retries=options.max_retries,
        retry_delay_ms=options.retry_delay_ms,
        visibility_timeout_ms=options.visibility_timeout_ms,
        timeout_ms=options.timeout_ms,
        delay_ms=options.delay_ms or 0,
        run_at=options.run_at,
        ttl_ms=options.ttl_ms,
        expires_at=options.expires_at,
    )
    return Child(ChildId(int=uuid7(now_ms, os.urandom(10)).int), order)


def check_type(job_type: object) -> None:
    """Raises ValidationError when jobs cannot have this type."""
    if not isinstance(job_type, str) or not is_type(job_type):
        raise ValidationError("type takes 1 to 50 of A-Z a-z 0-9 . _ : -")


def _options(given: Mapping[str, object]) -> ChildOptions:
    try:
        options = msgspec.convert(dict(given), ChildOptions)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        raise ValidationError(f"{path.removesuffix('`') or 'options'}: {text}") from None
    if options.delay_ms is not None and options.run_at is not None:
        raise ValidationError("delay_ms and run_at exclude each other")
    if options.ttl_ms is not None and options.expires_at is not None:
        raise ValidationError("ttl_ms and expires_at exclude each other")
    checked("tags and unique_key", [options.tags, options.unique_key], MAX_METADATA_BYTES)
    return options
