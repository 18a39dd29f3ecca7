"""Marks in the log of events: which of two comes first, and how one is written down."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from msgspec import Struct

from ferryman.core.ids import uuid7

_BYTES: Final = 24
_LAST_XID: Final = 2**64 - 1


class Mark(Struct, frozen=True, order=True):
    """Behind this row of the log: by the transaction that wrote it, inside one by the row's id."""

    xid: int
    id: UUID

    def to_bytes(self) -> bytes:
        """24 bytes that compare as marks do."""
        return self.xid.to_bytes(8, "big") + self.id.bytes

    @property
    def at_ms(self) -> int:
        """When it was made, by the ledger's clock, in Unix milliseconds."""
        return self.id.int >> 80

    def __str__(self) -> str:
        """The id of an event: 48 hex digits."""
        return self.to_bytes().hex()


def behind_all_before(xid: int, *, now_ms: int) -> Mark:
    """Behind every row of the transactions before this one: the highest id that there can be by now."""
    return Mark(xid - 1, uuid7(now_ms + 1, b"\xff" * 10))


def from_bytes(raw: bytes) -> Mark:
    """What `to_bytes` made. Raises ValueError."""
    if len(raw) != _BYTES:
        raise ValueError("not a mark")
    return Mark(int.from_bytes(raw[:8], "big"), UUID(bytes=raw[8:]))


def parse(text: str) -> Mark | None:
    """The mark that an event's id names, or None for what is no such id."""
    try:
        return from_bytes(bytes.fromhex(text)) if text.isalnum() else None
    except ValueError:
        return None


FIRST: Final = Mark(0, UUID(int=0))
LAST: Final = Mark(_LAST_XID, UUID(int=2**128 - 1))
