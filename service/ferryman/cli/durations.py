"""Durations as people type and read them."""

from __future__ import annotations

import argparse
import re
from typing import Final

UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)")


def duration_ms(text: str) -> int:
    """`500ms`, `90s`, `10m`, `2h` or `1d` in milliseconds. Raises argparse.ArgumentTypeError."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 500ms, 90s, 10m, 2h or 1d")
    return int(found[1]) * UNITS_MS[found[2]]


def seconds(text: str) -> int:
    """A whole number of seconds, or a duration, in seconds. Raises argparse.ArgumentTypeError."""
    return int(text) if re.fullmatch(r"[1-9][0-9]{0,9}", text) else max(1, duration_ms(text) // 1_000)


def shown(ms: float | None) -> str:
    """`512 ms`, `2.1 s`, `4 m 05 s`, `3 h 12 m`, `2 d 04 h`; nothing for None."""
    if ms is None:
        return ""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.1f} s"
    whole = int(ms // 1_000)
    if whole < 3_600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60:02d} m"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600:02d} h"
