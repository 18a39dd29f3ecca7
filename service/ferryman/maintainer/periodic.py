"""A loop as a class with one testable step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar


class Periodic(ABC):
    """Work that the leading maintainer repeats every `interval_s` seconds.

    A step is bounded and idempotent, and two processes may run it at once.
    """

    interval_s: ClassVar[float]

    @property
    def name(self) -> str:
        """The loop's name in logs."""
        return type(self).__name__.lower()

    @abstractmethod
    async def run_once(self) -> int:
        """Do one step. Answers how much it found to do."""
