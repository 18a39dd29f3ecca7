"""What Redis must still hear: claims that ended, where jobs went, and ids whose place is in doubt."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from ferryman.core.job import Position
from ferryman.ports import Ended

# While Redis is away these gather; what is forgotten heals by lease end and sweep.
MOST: Final = 10_000


class Releases:
    """Collected by the settler, delivered by the claimer's next step."""

    def __init__(self) -> None:
        self._ended: dict[str, deque[tuple[Ended, Position | None]]] = {}
        self._positions: deque[Position] = deque(maxlen=MOST)
        self._doubtful: deque[UUID] = deque(maxlen=MOST)
        self._refused: deque[UUID] = deque(maxlen=MOST)

    def add(self, queue: str, ended: Ended, position: Position) -> None:
        """A claim ended. Its job is pushed only after the claim is released, when it waits again."""
        entries = self._ended.get(queue)
        if entries is None:
            entries = self._ended[queue] = deque(maxlen=MOST)
        entries.append((ended, position if position.kind == "waiting" else None))

    def announce(self, positions: Iterable[Position]) -> None:
        """Jobs that are new: children."""
        self._positions.extend(positions)

    def doubt(self, job_ids: Iterable[UUID]) -> None:
        """Ids whose place the ledger must be asked for."""
        self._doubtful.extend(job_ids)

    def refuse(self, job_ids: Iterable[UUID]) -> None:
        """Ids that the ledger did not let be claimed."""
        self._refused.extend(job_ids)

    @property
    def has_any(self) -> bool:
        """Whether Redis can be told something without asking the ledger first."""
        return bool(self._positions) or any(self._ended.values())

    @property
    def has_doubts(self) -> bool:
        """Whether the ledger must be asked for the place of some ids."""
        return bool(self._doubtful or self._refused)

    def has_ended(self, queue: str) -> bool:
        """Whether claims on this queue wait to be released."""
        return bool(self._ended.get(queue))

    def queues(self) -> list[str]:
        """The queues with claims to release."""
        return [queue for queue, entries in self._ended.items() if entries]

    def take_ended(self, queue: str, most: int) -> list[tuple[Ended, Position | None]]:
        """The oldest ended claims of a queue."""
        entries = self._ended.get(queue)
        return [entries.popleft() for _ in range(min(most, len(entries)))] if entries else []

    def put_back(self, queue: str, entries: Iterable[tuple[Ended, Position | None]]) -> None:
        """They could not be delivered."""
        self._ended.setdefault(queue, deque(maxlen=MOST)).extend(entries)

    def take_positions(self, most: int) -> list[Position]:
        """The oldest positions to push."""
        return [self._positions.popleft() for _ in range(min(most, len(self._positions)))]

    def take_doubts(self, most: int) -> tuple[list[UUID], list[UUID]]:
        """The oldest refused and the oldest other doubtful ids."""
        refused = [self._refused.popleft() for _ in range(min(most, len(self._refused)))]
        most -= len(refused)
        return refused, [self._doubtful.popleft() for _ in range(min(most, len(self._doubtful)))]
