"""The order in which ready jobs are dispatched: priority with aging, as one number."""

from __future__ import annotations

import math
from typing import Final

MIN_PRIORITY: Final = 0
MAX_PRIORITY: Final = 100
DEFAULT_AGING_MS: Final = 60_000
# Largest aging for which a score stays exact in a double: 44 bits of milliseconds and 7 of priority.
MAX_AGING_MS: Final = 100_000_000_000
_FRACTION: Final = 128


def score(*, ready_ms: int, priority: int, aging_ms: int) -> float:
    """Lower runs sooner: `ready_ms - priority * aging_ms`, so a level is worth `aging_ms` of waiting.

    `ready_ms` is Unix time in whole milliseconds. A pure function of the row, so a rebuild gives the same
    order. The fraction carries the priority, for the dispatcher to read it back (`priority_of`).
    """
    return ready_ms - priority * aging_ms + priority / _FRACTION


def priority_of(value: float) -> int:
    """The priority inside a `score`."""
    return int((value - math.floor(value)) * _FRACTION)
