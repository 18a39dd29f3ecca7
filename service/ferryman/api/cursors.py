"""Cursors: where a list goes on. A position, never a right."""

from __future__ import annotations

import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from uuid import UUID

from msgspec import UnsetType

from ferryman.api.problems import Problem

_VERSION: Final = 1
_CHARS: Final = 28  # 21 bytes: the version, 16 of the id, 4 of the checksum


def encode_cursor(kind: str, after: UUID) -> str:
    """The cursor of a list of this kind that goes on after `after`."""
    body = bytes([_VERSION]) + after.bytes
    return urlsafe_b64encode(body + _checksum(kind, body)).decode("ascii")


def read_cursor(kind: str, cursor: str | UnsetType) -> UUID | None:
    """The id to go on after, None without a cursor. Raises as `decode_cursor`."""
    return None if isinstance(cursor, UnsetType) else decode_cursor(kind, cursor)


def decode_cursor(kind: str, cursor: str) -> UUID:
    """The id to go on after. Raises Problem `invalid_cursor`, also for another list's cursor."""
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii")) if len(cursor) == _CHARS else b""
    except ValueError:
        raw = b""
    body, checksum = raw[:17], raw[17:]
    if len(raw) != 21 or body[0] != _VERSION or checksum != _checksum(kind, body):
        raise Problem("invalid_cursor", "the cursor takes the nextCursor of the same list, unchanged")
    return UUID(bytes=body[1:])


def _checksum(kind: str, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(kind.encode("ascii"))).to_bytes(4, "big")
