"""How long the ledger has been there without a break, for loops that must not punish an outage."""

from __future__ import annotations

from ferryman.ports import Clock


class Steadiness:
    """After an outage live workers must get the chance to beat before anybody ends their leases."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic()

    def broken(self) -> None:
        """The ledger was away just now."""
        self._since = self._clock.monotonic()

    @property
    def ms(self) -> int:
        """Milliseconds since the ledger came back, or since this process began to look."""
        return round((self._clock.monotonic() - self._since) * 1000)
