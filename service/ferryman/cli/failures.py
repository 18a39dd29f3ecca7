"""From what went wrong to what is said about it and the exit code."""

from __future__ import annotations

from ferryman.cli.terminal import complain, harmless
from ferryman.client import (
    ClientError,
    ForbiddenError,
    QueueFullError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from ferryman.embedded import EmbeddedServerError
from ferryman.ports import DispatcherUnavailableError, LedgerError, LedgerUnavailableError
from ferryman.settings import SettingsError

_DEBUG_ADVICE = "--debug shows the traceback."


class CommandError(Exception):
    """A command cannot do what it was asked. `advice`: next steps; `code`: the exit code."""

    def __init__(self, message: str, *advice: str, code: int = 1) -> None:
        super().__init__(message)
        self.advice = advice
        self.code = code


def report(error: Exception) -> int:
    """Say what happened and what helps; answers the exit code."""
    match error:
        case CommandError():
            complain(str(error), *error.advice)
            return error.code
        case SettingsError():
            complain(str(error), *error.advice)
            return 2
        case UnreachableError():
            complain(str(error), "FERRYMAN_API_URL says where the API is.  → ferryman doctor")
            return 3
        case RefusedError():
            complain(harmless(str(error)), *_context(error))
            return 3 if isinstance(error, UnavailableError) else 1
        case LedgerUnavailableError() | DispatcherUnavailableError():
            complain(harmless(str(error)), "→ ferryman doctor")
            return 3
        case ExceptionGroup(exceptions=(only,)) if isinstance(only, Exception):
            return report(only)
        case EmbeddedServerError():
            complain(*(harmless(line) for line in str(error).splitlines()))
            return 1
        case ClientError() | LedgerError() | OSError():
            complain(harmless(str(error)))
            return 1
        case _:
            complain(harmless(f"{type(error).__name__}: {error}"), _DEBUG_ADVICE)
            return 1


def _context(error: RefusedError) -> list[str]:
    code = error.code or f"status {error.problem.status}"
    correlation = f", correlation {error.correlation_id}" if error.correlation_id else ""
    return [harmless(f"code {code}{correlation}"), *_remedy(error)]


def _remedy(error: RefusedError) -> list[str]:
    match error:
        case UnauthorizedError():
            return [
                "FERRYMAN_TOKEN or FERRYMAN_TOKEN_FILE holds the token.  → ferryman token --tenant T --user N"
            ]
        case ForbiddenError():
            return ["The token's roles do not allow this; who may do what stands in docs/cli.md."]
        case QueueFullError():
            return [f"Try again in {error.retry_after:g} s.  → ferryman queues get NAME"]
        case UnavailableError():
            return ["Try again in a moment.  → ferryman doctor"]
        case _:
            return []
