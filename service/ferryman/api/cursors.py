"""Cursors: where a list goes on. A position, never a right."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from uuid import UUID

from msgspec import UnsetType

from ferryman.api.problems import Problem
from ferryman.core.events import Mark, from_bytes

_VERSION: Final = 1
_ID_BYTES: Final = 16
_MARK_BYTES: Final = 24


def encode_cursor(kind: str, after: UUID) -> str:
    """The cursor of a list of this kind that goes on after `after`."""
    return _encode(kind, after.bytes)


def encode_mark(kind: str, after: Mark) -> str:
    """The cursor of a list in the order of the log."""
    return _encode(kind, after.to_bytes())


def read_cursor(kind: str, cursor: str | UnsetType) -> UUID | None:
    """The id to go on after, None without a cursor. Raises as `decode_cursor`."""
    return None if isinstance(cursor, UnsetType) else decode_cursor(kind, cursor)


def read_mark(kind: str, cursor: str | UnsetType) -> Mark | None:
    """The mark to go on after, None without a cursor. Raises as `decode_cursor`."""
    return None if isinstance(cursor, UnsetType) else from_bytes(_decode(kind, cursor, _MARK_BYTES))


def decode_cursor(kind: str, cursor: str) -> UUID:
    """The id to go on after. Raises Problem `invalid_cursor`, also for another list's cursor."""
    return UUID(bytes=_decode(kind, cursor, _ID_BYTES))


def _encode(kind: str, position: bytes) -> str:
    body = bytes([_VERSION]) + position
    return urlsafe_b64encode(body + _checksum(kind, body)).decode("ascii")


def _decode(kind: str, cursor: str, size: int) -> bytes:
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii"))
    except ValueError:
        raw = b""
    body, checksum = raw[: size + 1], raw[size + 1 :]
    if len(body) != size + 1 or body[0] != _VERSION or checksum != _checksum(kind, body):
        raise Problem("invalid_cursor", "the cursor takes the nextCursor of the same list, unchanged")
    return body[1:]


def _checksum(kind: str, body: bytes) -> bytes:
    """Four bytes, or a few more so that the cursor needs no padding."""
    return zlib.crc32(body, zlib.crc32(kind.encode("ascii"))).to_bytes(3 + -len(body) % 3, "big")
