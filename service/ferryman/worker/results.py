"""What a handler leaves behind, as the ledger can keep it: results, failures and cursors within bounds."""

from __future__ import annotations

from typing import Final

import msgspec

from ferryman.core import documents
from ferryman.core.failures import MAX_MESSAGE_CHARS, Failure, ValidationError, classify, sanitise

MAX_RESULT_BYTES: Final = 262_144
MAX_CURSOR_BYTES: Final = 65_536
MAX_DETAILS_BYTES: Final = 32_768

_encode: Final = msgspec.json.Encoder().encode


def document_of(result: object) -> bytes:
    """The JSON object of a handler's result: None is `{}`, what is no object becomes `{"result": …}`.

    Raises ValidationError when it cannot be kept.
    """
    if result is None:
        return b"{}"
    encoded = checked("the result", result, MAX_RESULT_BYTES)
    return encoded if encoded[:1] == b"{" else b'{"result":' + encoded + b"}"


def checked(what: str, value: object, most: int) -> bytes:
    """`value` as a JSON document of `most` bytes. Raises ValidationError naming `what` and why not."""
    try:
        encoded = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeError) as error:
        raise ValidationError(f"{what} cannot be kept as JSON: {error}") from None
    if len(encoded) > most:
        raise ValidationError(f"{what} is {len(encoded):,} bytes of JSON; at most {most:,} are kept")
    try:
        documents.check(encoded)
    except documents.DocumentError as error:
        place = documents.format_path(error.path)
        raise ValidationError(f"{what} cannot be kept{place and f', at {place}'}: it {error}") from None
    return encoded


def failure_of(error: BaseException) -> Failure:
    """`classify`, whatever the exception does when it is looked at, with details that can be stored."""
    try:
        failure = classify(error)
        return failure if _can_be_stored(failure) else _without_details(failure)
    except Exception as broken:
        kind, trouble = type(error).__qualname__, type(broken).__qualname__
        return classify(RuntimeError(f"{kind} was raised, but looking at it raised {trouble}"))


def _can_be_stored(failure: Failure) -> bool:
    try:
        checked("details", failure.details, MAX_DETAILS_BYTES)
    except ValidationError:
        return False
    return True


def _without_details(failure: Failure) -> Failure:
    text = sanitise(repr(failure.details), MAX_MESSAGE_CHARS)
    return msgspec.structs.replace(failure, details={"unreadable": text})
