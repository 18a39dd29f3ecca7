"""What Redis and its client raise, as the engine's own errors. Messages hold no address and no password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis.exceptions

from ferryman.ports import DispatcherUnavailableError


class RedisAwayError(DispatcherUnavailableError):
    """Redis cannot be reached, did not answer in time or takes no writes: the next call would fail, too."""


class RedisRefusedError(DispatcherUnavailableError):
    """Redis answered this one call with an error."""


# Replies of a server that will not serve anybody for now.
_AWAY: Final = (
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "WRONGPASS",
)


@contextmanager
def translated() -> Iterator[None]:
    """Raise RedisAwayError or RedisRefusedError for whatever the client raises inside."""
    try:
        yield
    except redis.exceptions.TimeoutError as error:
        raise RedisAwayError("Redis did not answer in time") from error
    except (redis.exceptions.ConnectionError, OSError) as error:
        raise RedisAwayError(f"Redis cannot be reached ({type(error).__name__})") from error
    except redis.exceptions.ReadOnlyError as error:
        raise RedisAwayError("Redis is a read-only replica") from error
    except redis.exceptions.RedisError as error:
        if str(error).startswith(_AWAY) or isinstance(error, redis.exceptions.OutOfMemoryError):
            raise RedisAwayError(f"Redis does not serve: {error}") from error
        raise RedisRefusedError(f"Redis refused: {error}") from error
