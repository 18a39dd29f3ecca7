"""UUIDv7 (RFC 9562, section 5.7): ids that sort by the time they were made."""

from __future__ import annotations

from uuid import UUID


def uuid7(now_ms: int, random_bytes: bytes) -> UUID:
    """A UUIDv7 of `now_ms` (Unix time in milliseconds) and ten bytes of randomness."""
    if len(random_bytes) != 10:
        raise ValueError(f"random_bytes takes 10 bytes, got {len(random_bytes)}")
    value = (now_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(random_bytes, "big")
    value &= ~(0xF000 << 64) & ~(0xC000 << 48)
    return UUID(int=value | 0x7000 << 64 | 0x8000 << 48)
