"""What Redis and its client raise, as the engine's own errors. Messages hold no address and no password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis.exceptions as foreign

from ferryman.ports import DispatcherUnavailableError


class RedisAwayError(DispatcherUnavailableError):
    """Redis cannot be reached, did not answer in time or takes no writes: the next call would fail, too."""


class RedisRefusedError(DispatcherUnavailableError):
    """Redis answered this one call with an error."""


# What a server says that will not serve anybody for now: by class where redis-py has one, else by its code.
_AWAY_CLASSES: Final = (
    foreign.AskError,
    foreign.ClusterDownError,
    foreign.MasterDownError,
    foreign.OutOfMemoryError,
    foreign.ReadOnlyError,
    foreign.TryAgainError,
)
_AWAY_CODES: Final = ("BUSY", "MISCONF", "NOREPLICAS", "WRONGPASS")


@contextmanager
def translated() -> Iterator[None]:
    """Raise RedisAwayError or RedisRefusedError for whatever the client raises inside."""
    try:
        yield
    except (foreign.TimeoutError, TimeoutError) as error:
        raise RedisAwayError("Redis did not answer in time") from error
    except (foreign.ConnectionError, OSError) as error:
        raise RedisAwayError(f"Redis cannot be reached ({type(error).__name__})") from error
    except foreign.RedisError as error:
        if isinstance(error, _AWAY_CLASSES) or str(error).startswith(_AWAY_CODES):
            raise RedisAwayError(f"Redis does not serve now ({type(error).__name__})") from error
        raise RedisRefusedError(f"Redis refused: {error}") from error
