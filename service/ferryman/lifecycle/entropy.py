"""Random bytes for ids, fetched from the system by the page: a system call costs more than an id."""

from __future__ import annotations

import os
from typing import Final

_PAGE: Final = 4_096


class Entropy:
    """Hands out each random byte once. For one thread, and not for secrets."""

    def __init__(self) -> None:
        self._page = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        """`count` bytes, at most a page of them."""
        start, end = self._used, self._used + count
        if end > len(self._page):
            self._page = os.urandom(_PAGE)
            start, end = 0, count
        self._used = end
        return self._page[start:end]
