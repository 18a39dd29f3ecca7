"""Rates with bursts, by GCRA: of a bucket only the instant is kept at which it will be full again.

With `burst` tokens and one more every `1 / per_second`, any window of t seconds grants at most
`per_second * t + burst` tokens. `dispatch/lua/rate.lua` is the same rule in Redis; a test holds them equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

SLOWEST_PER_SECOND: Final = 1e-6


class Toll(Struct, frozen=True, kw_only=True):
    """Tokens wanted out of one bucket. `per_second` is above 0, `burst` and `cost` are 1 or more."""

    bucket: str
    cost: int
    per_second: float
    burst: int

    @property
    def interval_us(self) -> int:
        """Microseconds from one token to the next, a whole number: sums of them stay exact."""
        return math.ceil(1_000_000 / max(self.per_second, SLOWEST_PER_SECOND))


class Taken(Struct, frozen=True, kw_only=True):
    """How a bucket stands. `allowed`: it has the tokens; taken are they once all buckets of a call do.

    `remaining` tokens are there; `reset_ms` from now the bucket is full; `retry_after_ms` from now it has
    what was refused, None when it can never have so many.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_ms: int
    retry_after_ms: int | None = 0


def take(
    tolls: Sequence[Toll], full_at: Sequence[int | None], now_us: int
) -> tuple[list[Taken], list[int] | None]:
    """Take from all buckets or from none: how each stands, and the instants to keep, None when refused.

    `full_at` are the instants that were kept, None for an untouched bucket. One that lies further ahead than
    an empty bucket needs (a clock went back, a limit was raised) counts as empty.
    """
    spent = [_spent_us(toll, at, now_us) for toll, at in zip(tolls, full_at, strict=True)]
    wanted = [
        before + toll.cost * toll.interval_us <= toll.burst * toll.interval_us
        for toll, before in zip(tolls, spent, strict=True)
    ]
    if not all(wanted):
        return _standings(tolls, spent, wanted), None
    after = [before + toll.cost * toll.interval_us for toll, before in zip(tolls, spent, strict=True)]
    return _standings(tolls, after, wanted), [now_us + us for us in after]


def _spent_us(toll: Toll, full_at: int | None, now_us: int) -> int:
    """The time that the bucket needs to be full again."""
    return 0 if full_at is None else min(max(0, full_at - now_us), toll.burst * toll.interval_us)


def _standings(tolls: Sequence[Toll], spent: Sequence[int], allowed: Sequence[bool]) -> list[Taken]:
    rows = zip(tolls, spent, allowed, strict=True)
    return [standing(toll, allowed=has, spent_us=us) for toll, us, has in rows]


def standing(toll: Toll, *, allowed: bool, spent_us: int) -> Taken:
    """How a bucket stands that needs `spent_us` to be full again."""
    room_us = toll.burst * toll.interval_us - spent_us
    missing_us = toll.cost * toll.interval_us - room_us
    return Taken(
        allowed=allowed,
        limit=toll.burst,
        remaining=max(0, room_us // toll.interval_us),
        reset_ms=_milliseconds(spent_us),
        retry_after_ms=0 if allowed else None if toll.cost > toll.burst else _milliseconds(missing_us),
    )


def _milliseconds(microseconds: int) -> int:
    """Rounded up, so that whoever waits so long has waited long enough."""
    return -(-microseconds // 1_000)
