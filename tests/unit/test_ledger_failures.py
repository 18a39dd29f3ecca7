"""Foreign errors, told apart by what to do about them."""

import asyncpg
import pytest
from asyncpg.exceptions import _base as driver

from ferryman.ledger import failures
from ferryman.ports import (
    LedgerError,
    LedgerUnavailableError,
    QueryTooExpensiveError,
    RejectedDataError,
    UnknownQueueError,
)


@pytest.mark.parametrize(
    ("error", "expected", "doubt"),
    [
        (asyncpg.UntranslatableCharacterError("\\u0000"), RejectedDataError, False),
        (asyncpg.CheckViolationError("check"), RejectedDataError, False),
        (driver.DataError("invalid input for query argument $1"), RejectedDataError, False),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), RejectedDataError, False),
        (asyncpg.QueryCanceledError("cancelled"), LedgerUnavailableError, False),
        (asyncpg.DiskFullError("full"), LedgerUnavailableError, False),
        (asyncpg.LockNotAvailableError("locked"), LedgerUnavailableError, False),
        (asyncpg.UndefinedTableError("no such table"), LedgerUnavailableError, False),
        (asyncpg.DeadlockDetectedError("deadlock"), LedgerUnavailableError, False),
        (asyncpg.AdminShutdownError("shutdown"), LedgerUnavailableError, True),
        (asyncpg.CrashShutdownError("crash"), LedgerUnavailableError, True),
        (asyncpg.CannotConnectNowError("starting up"), LedgerUnavailableError, True),
        (asyncpg.ConnectionDoesNotExistError("closed"), LedgerUnavailableError, True),
        (asyncpg.InterfaceError("connection is closed"), LedgerUnavailableError, True),
        (ConnectionResetError("reset"), LedgerUnavailableError, True),
        (TimeoutError(), LedgerUnavailableError, True),
    ],
)
def test_each_error_has_its_translation(error: Exception, expected: type[LedgerError], doubt: bool) -> None:
    assert failures.is_foreign(error)
    assert failures.leaves_doubt(error) is doubt
    with pytest.raises(expected) as caught, failures.translated():
        raise error
    assert caught.value.__cause__ is error


def test_what_may_be_run_again_at_once() -> None:
    assert failures.is_conflict(asyncpg.DeadlockDetectedError(""))
    assert failures.is_conflict(asyncpg.SerializationError(""))
    assert not failures.is_conflict(asyncpg.LockNotAvailableError(""))


def test_a_read_that_was_cancelled_was_too_expensive() -> None:
    error = asyncpg.QueryCanceledError("cancelled")
    with pytest.raises(QueryTooExpensiveError), failures.translated(reading=True):
        raise error


def test_messages_hold_no_values() -> None:
    error = asyncpg.InvalidTextRepresentationError('invalid input syntax: "s3cret"')
    assert "s3cret" not in str(failures.translate(error))


@pytest.mark.parametrize("error", [ValueError("ours"), UnknownQueueError("q"), KeyError("k")])
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, failures.translated():
        raise error
    assert caught.value is error
