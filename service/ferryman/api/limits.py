"""What the API bears, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    max_body_bytes: int = 1_048_576
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    keepalive_seconds: float = 75.0
    readiness_seconds: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """Which build answers."""

    version: str
