"""Instants as REST writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at: datetime | None) -> str | None:
    """RFC 3339, UTC, milliseconds cut off: as `ferryman.rfc3339` in SQL."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
