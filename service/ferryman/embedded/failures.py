"""What can go wrong with an embedded server; each message says what to do next."""

from pathlib import Path

_TAIL_LINES = 15


class EmbeddedServerError(Exception):
    """An embedded server cannot do what was asked of it."""


class ServerBinaryMissingError(EmbeddedServerError):
    """The server's program is not installed, or not where it was said to be."""


class DataDirUnreachableError(EmbeddedServerError):
    """The account that runs the server cannot enter its data directory."""


class DataDirInUseError(EmbeddedServerError):
    """Another server is running on the same data directory."""


class ServerNotRunningError(EmbeddedServerError):
    """The server must be running for this call."""


class ServerStartError(EmbeddedServerError):
    """The server ended, or was not ready in time; the message holds the last lines of its log."""


class SqlError(EmbeddedServerError):
    """An administrator's statement was refused; the message is the server's."""


def tail(log: Path, since: int = 0) -> str:
    """The last lines of a log file from byte `since` on, for a message; if there are none, it says so."""
    try:
        with log.open("rb") as file:
            file.seek(since)
            text = file.read().decode(errors="replace")
    except OSError:
        return "(no log was written)"
    return "\n".join(text.splitlines()[-_TAIL_LINES:]) or "(the log is empty)"


def log_size(log: Path) -> int:
    """Where what is still to be logged will begin, in bytes."""
    return log.stat().st_size if log.exists() else 0
