"""How long and how much is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

QUEUE: Final = "bench"
QUEUE_SIZE: Final = 5_000_000
BULK: Final = 1_000
CONCURRENCY: Final = 200
"""Slots of a Ferryman worker."""
GROUP_CONNECTIONS: Final = 128
"""Connections of the largest REST load and of both baselines."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """A rate of calls is measured over `seconds`; the rest are numbers of jobs."""

    seconds: float = 1.5
    drain: int = 50_000
    drain_arq: int = 8_000
    drain_arq_default: int = 600
    pickups: int = 100
    pickups_arq_default: int = 12
    held: int = 10
    flushed: int = 20_000
    backlog: int = 100_000
    claims: int = 400


SMOKE: Final = Sizes(
    seconds=0.3, drain=2_000, drain_arq=300, drain_arq_default=30, pickups=15, pickups_arq_default=3, held=3,
    flushed=2_000, backlog=2_000, claims=20,
)  # fmt: skip
