"""When a failed attempt is tried again: budgets and delays by error class (contract, section 5)."""

from __future__ import annotations

from typing import Final, assert_never

import msgspec

from ferryman.core.failures import ErrorClass

DEFAULT_MAX_RETRIES: Final = 3
DEFAULT_INITIAL_DELAY_MS: Final = 1_000
MAX_DELAY_MS: Final = 31_536_000_000
# 2**_MAX_DOUBLINGS already exceeds every allowed delay; the cap keeps the power inside a float.
_MAX_DOUBLINGS: Final = 64
SYSTEM_RETRY_FACTOR: Final = 2
SYSTEM_DELAY_FACTOR: Final = 5


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often and how late a job is tried again. Delays are milliseconds.

    Retry n (from 1) waits `initial_delay_ms * multiplier**(n-1)`, at most `max_delay_ms`; with jitter
    50 to 100 % of it.
    """

    max_retries: int = DEFAULT_MAX_RETRIES
    initial_delay_ms: int = DEFAULT_INITIAL_DELAY_MS
    multiplier: float = 2.0
    max_delay_ms: int = 60_000
    jitter: bool = True

    def allowed(self, error_class: ErrorClass) -> int:
        """How many retries a failure of this class may use."""
        match error_class:
            case ErrorClass.TRANSIENT | ErrorClass.TIMEOUT:
                return self.max_retries
            case ErrorClass.SYSTEM:
                return self.max_retries * SYSTEM_RETRY_FACTOR
            case ErrorClass.PERMANENT | ErrorClass.VALIDATION | ErrorClass.BUSINESS:
                return 0
            case _:
                assert_never(error_class)

    def delay_ms(self, retry: int, error_class: ErrorClass, dice: float) -> int:
        """Milliseconds before retry number `retry` (from 1); `dice` is uniform in [0, 1).

        TIMEOUT is doubled once more, SYSTEM may grow to five times the longest delay.
        """
        doublings = retry - 1 + (1 if error_class is ErrorClass.TIMEOUT else 0)
        longest = self.max_delay_ms * (SYSTEM_DELAY_FACTOR if error_class is ErrorClass.SYSTEM else 1)
        full = min(longest, self.initial_delay_ms * self.multiplier ** min(doublings, _MAX_DOUBLINGS))
        return round(full * (0.5 + dice / 2)) if self.jitter else round(full)


# By type, weaker than what a queue says of the type and than what a handler's decorator says.
TYPE_SEEDS: Final[dict[str, tuple[int, int]]] = {
    "chat": (5, 2_000),
    "memory": (3, 500),
    "notification": (10, 30_000),
}
