"""The one repair: ask the ledger where jobs belong, so that Redis can be made to agree."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from ferryman.core.job import Position
from ferryman.ports import JobStore
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from ferryman.worker.releases import Releases

# A job that is ready by the ledger and was refused all the same is of a type that this worker does not know,
# or its row was locked just then. Somebody else may have it before it comes round again.
PUT_OFF_MS: Final = 5_000


async def where_doubtful(
    jobs: JobStore, releases: Releases, metrics: Metrics, *, most: int
) -> list[Position]:
    """Where the oldest ids in doubt belong, those that were refused put off. Raises LedgerError, nothing
    lost.
    """
    refused, doubtful = releases.take_doubts(most)
    try:
        positions = await jobs.positions([*refused, *doubtful])
    except BaseException:
        releases.refuse(refused)
        releases.doubt(doubtful)
        raise
    metrics.count(names.RESYNCED_TOTAL, len(positions))
    put_off = set(refused)
    return [_put_off(position) if position.id in put_off else position for position in positions]


def _put_off(position: Position) -> Position:
    if position.kind != "waiting" or position.due_in_ms > PUT_OFF_MS:
        return position
    return structs.replace(position, due_in_ms=PUT_OFF_MS)
