"""`JobContext`: what a handler knows of its job, and what it may ask for while it runs."""

from __future__ import annotations

import logging
from collections.abc import Generator, MutableMapping
from datetime import datetime
from functools import cached_property
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from ferryman.core.failures import ValidationError, sanitise
from ferryman.core.job import Claimed
from ferryman.worker.results import MAX_CURSOR_BYTES, checked

MAX_NOTE_CHARS: Final = 500


class Written(Protocol):
    """Something that may be awaited, or not."""

    def __await__(self) -> Generator[Any, None, None]: ...


class ChildId(UUID):
    """The id of a job that a handler submitted. Awaiting it answers the same id, so both spellings work."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, UUID]:
        yield
        return self


class Desk(Protocol):
    """What a context needs from whoever runs the attempt. All of it may be called from any thread."""

    @property
    def cancelled(self) -> bool: ...

    @property
    def deadline(self) -> datetime: ...

    def report(self, percent: float | None, note: str | None) -> Written: ...

    def keep(self, cursor: bytes) -> Written: ...

    def adopt(self, job_type: str, document: bytes, options: dict[str, object]) -> ChildId: ...


class JobContext:
    """One attempt at a job, as its handler sees it. Sync handlers use it from their threads."""

    def __init__(self, claimed: Claimed, desk: Desk) -> None:
        self._claimed = claimed
        self._desk = desk
        self._kept: bytes | None = claimed.cursor

    @property
    def job_id(self) -> UUID:
        return self._claimed.id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; it never goes down."""
        return self._claimed.attempt

    @property
    def tenant_id(self) -> str:
        return self._claimed.tenant_id

    @property
    def user_id(self) -> int:
        return self._claimed.user_id

    @property
    def queue(self) -> str:
        return self._claimed.queue

    @property
    def type(self) -> str:
        return self._claimed.type

    @property
    def tags(self) -> list[str]:
        return self._claimed.tags

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """The job's metadata, as it was submitted."""
        decoded: dict[str, Any] = msgspec.json.decode(self._claimed.metadata)
        return decoded

    @property
    def correlation_id(self) -> str | None:
        return self._claimed.correlation_id

    @property
    def traceparent(self) -> str | None:
        return self._claimed.traceparent

    @property
    def created_at(self) -> datetime:
        return self._claimed.created_at

    @property
    def started_at(self) -> datetime:
        """When the ledger gave this attempt to its worker."""
        return self._claimed.started_at

    @property
    def wait_ms(self) -> int:
        """How long the job was ready before this attempt began."""
        return self._claimed.wait_ms

    @property
    def deadline(self) -> datetime:
        """When this attempt runs out of time (UTC, this machine's clock)."""
        return self._desk.deadline

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this job: hand it to whatever must happen once."""
        return str(self._claimed.id)

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should stop: cancelled, out of time, shutting down, or its lease is lost. An
        async handler gets a CancelledError besides; a sync one looks here.
        """
        return self._desk.cancelled

    @property
    def cursor(self) -> Any:
        """What `save_cursor` kept last, in this attempt or one before it; None at first."""
        return None if self._kept is None else msgspec.json.decode(self._kept)

    def save_cursor(self, value: object) -> Written:
        """Keep a JSON value of at most 64 KiB for the attempts to come.

        Awaited, it returns once the value is stored; a sync handler just calls it, and the value is stored
        within moments, at the latest before the attempt's end is. Raises ValidationError.
        """
        document = checked("the cursor", value, MAX_CURSOR_BYTES)
        self._kept = document
        return self._desk.keep(document)

    def progress(self, percent: float | None = None, note: str | None = None) -> Written:
        """Say how far the job is: 0 to 100 percent and a note of at most 500 characters.

        Write it as often as you like: a few a second are stored, the last one always. A sync handler calls
        it without awaiting.
        """
        if percent is not None and not 0 <= percent <= 100:
            raise ValidationError(f"progress takes 0 to 100 percent; got {percent!r}")
        return self._desk.report(
            None if percent is None else float(percent),
            None if note is None else sanitise(note, MAX_NOTE_CHARS),
        )

    def enqueue(self, job_type: str, input: dict[str, Any] | None = None, **options: object) -> ChildId:
        """Submit a job for the same tenant and user, stored if and only if this one completes.

        Options are those of a submission: queue (this one's by default), priority, delay_ms or run_at,
        ttl_ms or expires_at, max_retries, retry_delay_ms, visibility_timeout_ms, timeout_ms, tags,
        metadata, unique_key. Answers the new job's id at once. Raises ValidationError.
        """
        document = checked("the input", {} if input is None else input, MAX_INPUT_BYTES)
        if document[:1] != b"{":
            raise ValidationError("input takes an object")
        return self._desk.adopt(job_type, document, options)

    @cached_property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines carry the job's id, attempt, type, queue, tenant and correlation id."""
        claimed = self._claimed
        fields = {
            "job_id": str(claimed.id),
            "attempt": claimed.attempt,
            "type": claimed.type,
            "queue": claimed.queue,
            "tenant_id": claimed.tenant_id,
            "correlation_id": claimed.correlation_id,
        }
        return _FieldAdapter(logging.getLogger(f"ferryman.jobs.{claimed.type}"), fields)


MAX_INPUT_BYTES: Final = 1_048_576


class _FieldAdapter(logging.LoggerAdapter[logging.Logger]):
    """Adds the job's fields to those that a line brings itself."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
