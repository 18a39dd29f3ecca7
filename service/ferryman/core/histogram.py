"""Durations in buckets that grow by half: percentiles from counts, without keeping the durations."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

# Upper bounds in milliseconds, inclusive; the last bucket is open. The SQL function ferryman.bucket
# holds the same numbers, and a test keeps them equal.
BOUNDS_MS: Final[tuple[int, ...]] = (
    1, 2, 3, 5, 7, 11, 17, 25, 38, 57, 86, 129, 194, 291, 437, 656, 985, 1477, 2216, 3325, 4987, 7481,
    11222, 16834, 25251, 37876, 56815, 85222, 127834, 191751, 287626, 431439, 647159, 970739, 1456109,
    2184164, 3276246, 4914369, 7371553, 11057330, 16585995, 24878992, 37318489, 55977733, 83966600,
)  # fmt: skip


def bucket(duration_ms: int) -> int:
    """The number of the bucket, from 0, that a duration in milliseconds falls into."""
    return bisect_left(BOUNDS_MS, duration_ms)


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The `q` quantile (0 to 1) in milliseconds, linear inside its bucket; None when nothing was counted."""
    buckets = sorted((b, n) for b, n in counts.items() if n > 0)
    total = sum(n for _, n in buckets)
    if not total:
        return None
    rank = q * total
    for (number, count), reached in zip(buckets, accumulate(n for _, n in buckets), strict=True):
        if reached >= rank:
            lower, upper = _edges(number)
            return lower + (upper - lower) * (1 - (reached - rank) / count)
    raise AssertionError("unreachable: the last bucket reaches the total")


def _edges(number: int) -> tuple[int, int]:
    lower = BOUNDS_MS[number - 1] if number else 0
    return lower, BOUNDS_MS[number] if number < len(BOUNDS_MS) else lower * 2
