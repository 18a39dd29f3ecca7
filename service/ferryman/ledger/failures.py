"""What PostgreSQL and its driver raise, told apart by what to do about it, and translated at the border."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from asyncpg.exceptions import _base as driver

from ferryman.ports import LedgerError, LedgerUnavailableError, QueryTooExpensiveError, RejectedDataError

_DATA_CLASSES: Final = ("22", "23")
_CONFLICTS: Final = ("40001", "40P01")  # serialization failure, deadlock
_ENDED_BY_SERVER: Final = ("57P", "08")  # shutdown, crash, connection failures: the COMMIT may have happened
_CANCELLED: Final = "57014"


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE that the server sent, or an empty text."""
    return str(getattr(error, "sqlstate", None) or "")


def is_data_error(error: BaseException) -> bool:
    """Whether a value was refused, by the server (SQLSTATE class 22, 23) or on the way to it."""
    return isinstance(error, driver.DataError | UnicodeError) or sqlstate(error).startswith(_DATA_CLASSES)


def is_conflict(error: BaseException) -> bool:
    """Whether the same statement may well succeed when it is run again at once."""
    return sqlstate(error) in _CONFLICTS


def leaves_doubt(error: BaseException) -> bool:
    """Whether a write that met this error may have been committed all the same."""
    if is_data_error(error):
        return False
    if isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return True
    return sqlstate(error).startswith(_ENDED_BY_SERVER)


def is_foreign(error: BaseException) -> bool:
    """Whether the error comes from PostgreSQL, its driver or the network, so that `translate` knows it."""
    return isinstance(
        error,
        OSError | UnicodeError | asyncpg.PostgresError | asyncpg.InterfaceError | asyncpg.InternalClientError,
    )


def translate(error: BaseException, *, reading: bool = False) -> LedgerError:
    """The ledger's own error for a foreign one. Messages name no value: those may be a tenant's.

    `reading`: a statement that the server cancelled was too expensive; any other was not carried out.
    """
    if is_data_error(error):
        return RejectedDataError(f"PostgreSQL refused a value ({sqlstate(error) or 'cannot be encoded'})")
    if reading and sqlstate(error) == _CANCELLED:
        return QueryTooExpensiveError("the query ran into its time limit")
    if isinstance(error, TimeoutError):
        return LedgerUnavailableError("the ledger did not answer in time")
    if leaves_doubt(error):
        return LedgerUnavailableError("the ledger cannot be reached")
    return LedgerUnavailableError(
        f"the ledger cannot do this now ({sqlstate(error) or type(error).__name__})"
    )


@contextmanager
def translated(*, reading: bool = False) -> Iterator[None]:
    """Turn foreign errors inside the block into the ledger's own, as `translate` does."""
    try:
        yield
    except LedgerError:
        raise
    except Exception as error:
        if not is_foreign(error):
            raise
        raise translate(error, reading=reading) from error
