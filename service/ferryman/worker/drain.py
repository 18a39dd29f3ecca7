"""Whether the worker takes new work, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

from ferryman.worker.lease import State


class Drain:
    """Three reasons to claim nothing more: somebody asked for it (and may take it back), too many zombies
    hold slots, the worker stops.
    """

    def __init__(self, *, is_idle: Callable[[], bool], on_change: Callable[[], None]) -> None:
        self._is_idle = is_idle
        self._on_change = on_change
        self._asked = False
        self.is_worn_out = False
        self.is_stopping = False

    @property
    def state(self) -> State:
        """The state that the beat reports."""
        if self.is_stopping:
            return "stopping"
        if self._asked or self.is_worn_out:
            return "drained" if self._is_idle() else "draining"
        return "running"

    @property
    def may_claim(self) -> bool:
        """Whether slots may be filled."""
        return not (self._asked or self.is_worn_out or self.is_stopping)

    def ask(self, asked: bool) -> None:
        """The ledger's word: drain, or take work again."""
        if asked is not self._asked:
            self._asked = asked
            self._on_change()

    def wear_out(self) -> None:
        """Too many zombies: let the others end, then stop for a restart."""
        if not self.is_worn_out:
            self.is_worn_out = True
            self._on_change()

    def stop(self) -> None:
        """The process ends."""
        if not self.is_stopping:
            self.is_stopping = True
            self._on_change()
