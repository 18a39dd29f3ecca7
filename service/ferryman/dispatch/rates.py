"""Buckets of tokens in Redis, shared by all processes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ferryman.core.rates import Taken, Toll, standing
from ferryman.dispatch import keys, scripts
from ferryman.dispatch.link import Link

_encode = msgspec.msgpack.Encoder().encode


async def take(
    link: Link, groups: Sequence[Sequence[Toll]], *, now_us: int | None = None
) -> list[list[Taken]]:
    """For each group, in order, take from all of its buckets or from none; at Redis time without `now_us`."""
    buckets = [keys.rate(toll.bucket) for group in groups for toll in group]
    wanted = [
        [number for toll in group for number in (toll.cost, toll.burst, toll.interval_us)] for group in groups
    ]
    at = "" if now_us is None else now_us
    answer = iter(await link.ask(lambda client: scripts.RATE.run_on(client, buckets, at, _encode(wanted))))
    return [
        [standing(toll, allowed=bool(next(answer)), spent_us=next(answer)) for toll in group]
        for group in groups
    ]
