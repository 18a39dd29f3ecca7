"""What can go wrong in a handler: six classes, the exceptions that name them, and `classify`."""

from __future__ import annotations

import hashlib
import re
import traceback
from enum import StrEnum
from typing import Final

import msgspec

MAX_MESSAGE_CHARS: Final = 2_000
MAX_TRACEBACK_CHARS: Final = 8_000


class ErrorClass(StrEnum):
    """Why an attempt failed, which decides whether another one follows (contract, section 5)."""

    TRANSIENT = "TRANSIENT"
    TIMEOUT = "TIMEOUT"
    SYSTEM = "SYSTEM"
    PERMANENT = "PERMANENT"
    VALIDATION = "VALIDATION"
    BUSINESS = "BUSINESS"

    @property
    def is_permanent(self) -> bool:
        """Whether trying again cannot help."""
        return self in (ErrorClass.PERMANENT, ErrorClass.VALIDATION, ErrorClass.BUSINESS)


class HandlerError(Exception):
    """Base of the errors that a handler raises to say what kind of failure it met.

    `details`, a JSON object, is kept with the job and shown to its owner.
    """

    error_class: ErrorClass = ErrorClass.TRANSIENT

    def __init__(self, message: str = "", *, details: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.details = details or {}


class TransientError(HandlerError):
    """The failure may pass: try again."""

    error_class = ErrorClass.TRANSIENT


class PermanentError(HandlerError):
    """Trying again cannot help: dead letter at once."""

    error_class = ErrorClass.PERMANENT


class ValidationError(HandlerError):
    """The input does not fit: dead letter at once."""

    error_class = ErrorClass.VALIDATION


class BusinessError(HandlerError):
    """A rule of the business forbids it: dead letter at once."""

    error_class = ErrorClass.BUSINESS


class PlatformError(HandlerError):
    """A fault of the platform, not of the job: class SYSTEM, retried longest."""

    error_class = ErrorClass.SYSTEM


class RetryAfter(Exception):  # noqa: N818 - a request, not an error
    """Raised by a handler: this attempt failed, try again after `delay_ms` (it uses up a retry)."""

    def __init__(self, delay_ms: int, message: str = "retry asked for by the handler") -> None:
        super().__init__(message)
        self.delay_ms = delay_ms


class Snooze(Exception):  # noqa: N818 - a request, not an error
    """Raised by a handler: not now, again after `delay_ms`. It uses up no retry."""

    def __init__(self, delay_ms: int) -> None:
        super().__init__(f"snoozed for {delay_ms} ms")
        self.delay_ms = delay_ms


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One failed attempt, ready to be stored: bounded, printable, with a fingerprint of its cause."""

    error_class: ErrorClass
    message: str
    details: dict[str, object]
    fingerprint: str
    reason: str = "failed"


_SYSTEM: Final = (MemoryError, SystemError)
_VOLATILE: Final = re.compile(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{27}|\d+", re.IGNORECASE)


def classify(error: BaseException) -> Failure:
    """Turn what a handler raised into a `Failure`. An unknown exception is TRANSIENT."""
    error_class = _error_class(error)
    kind = type(error).__qualname__
    message = sanitise(str(error) or kind, MAX_MESSAGE_CHARS)
    trace = "".join(traceback.format_exception(error))
    details: dict[str, object] = {"exception": kind}
    if isinstance(error, HandlerError) and error.details:
        details["given"] = error.details
    if not isinstance(error, HandlerError) or error.__cause__ is not None:
        details["traceback"] = sanitise(trace[-MAX_TRACEBACK_CHARS:], MAX_TRACEBACK_CHARS)
    return Failure(
        error_class=error_class,
        message=message,
        details=details,
        fingerprint=fingerprint(error_class, kind, message),
    )


def _error_class(error: BaseException) -> ErrorClass:
    if isinstance(error, HandlerError):
        return error.error_class
    if isinstance(error, TimeoutError):
        return ErrorClass.TIMEOUT
    if isinstance(error, _SYSTEM):
        return ErrorClass.SYSTEM
    return ErrorClass.TRANSIENT


def fingerprint(error_class: ErrorClass, kind: str, message: str) -> str:
    """16 hex digits that are equal for failures of one cause: ids, addresses and numbers are left out."""
    stable = f"{error_class}|{kind}|{_VOLATILE.sub('#', message)}"
    return hashlib.sha256(stable.encode("utf-8", "replace")).hexdigest()[:16]


def sanitise(text: str, limit: int) -> str:
    """`text` as PostgreSQL can store it: no NUL, no lone surrogate, `limit` characters at most."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return cut.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")
