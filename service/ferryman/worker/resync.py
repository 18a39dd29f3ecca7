"""The one repair: ask the ledger where jobs belong, so that Redis can be made to agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import structs

from ferryman.core.job import Position
from ferryman.ports import JobStore
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.worker.releases import Releases

# A job of a known type that is ready by the ledger and was refused all the same: its row was locked just
# then, or its queue is paused, which Redis has not heard yet.
PUT_OFF_MS: Final = 1_000


async def where_doubtful(
    jobs: JobStore, releases: Releases, metrics: Metrics, *, types: Sequence[str], most: int
) -> list[Position]:
    """Where the oldest ids in doubt belong. Those that were refused are put off: for a while, or, when their
    type is none of `types`, until a worker comes that knows it. Raises LedgerError, nothing lost.
    """
    refused, doubtful = releases.take_doubts(most)
    try:
        positions = await jobs.positions([*refused, *doubtful])
    except BaseException:
        releases.refuse(refused)
        releases.doubt(doubtful)
        raise
    metrics.count(names.RESYNCED_TOTAL, len(positions))
    were_refused = set(refused)
    return [_put_off(position, types) if position.id in were_refused else position for position in positions]


def _put_off(position: Position, types: Sequence[str]) -> Position:
    if position.kind != "waiting" or position.due_in_ms > PUT_OFF_MS:
        return position
    if position.type not in types:
        return structs.replace(position, put_off="by_type")
    return structs.replace(position, put_off="for_a_while", due_in_ms=PUT_OFF_MS)
