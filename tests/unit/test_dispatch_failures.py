"""Errors of Redis and its client become the engine's own, without values of the address."""

from __future__ import annotations

import pytest
import redis.exceptions as foreign

from ferryman.dispatch.failures import RedisAwayError, RedisRefusedError, translated
from ferryman.ports import DispatcherUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        foreign.TimeoutError("Timeout reading from 10.0.0.1:6379"),
        foreign.ConnectionError("Error 111 connecting to 10.0.0.1:6379"),
        foreign.BusyLoadingError("LOADING Redis is loading the dataset in memory"),
        foreign.AuthenticationError("invalid username-password pair"),
        foreign.ReadOnlyError("You can't write against a read only replica."),
        foreign.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        foreign.ResponseError("BUSY Redis is busy running a script."),
        foreign.MovedError("3999 10.0.0.2:6381"),  # type: ignore[no-untyped-call]
        foreign.ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        foreign.MasterDownError("Link with MASTER is down"),  # type: ignore[no-untyped-call]
        OSError("broken pipe"),
    ],
)
def test_a_server_that_is_of_no_use_is_away(error: Exception) -> None:
    with pytest.raises(RedisAwayError) as caught, translated():
        raise error
    assert isinstance(caught.value, DispatcherUnavailableError)
    assert caught.value.__cause__ is error
    assert "10.0.0.1" not in str(caught.value)


def test_an_error_about_one_command_is_told_apart() -> None:
    with pytest.raises(RedisRefusedError, match="WRONGTYPE") as caught, translated():
        raise foreign.ResponseError("WRONGTYPE Operation against a key")
    assert isinstance(caught.value, DispatcherUnavailableError)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError("x")
