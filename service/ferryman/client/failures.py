"""What can go wrong between a client and the API, one class for each remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is no success, as the API explains it (RFC 9457)."""

    status: int
    code: str
    title: str
    detail: str
    correlation_id: str | None
    errors: list[tuple[str, str]] = field(default_factory=list)
    retry_after_seconds: float | None = None
    document: Mapping[str, Any] = field(default_factory=dict)


class ClientError(Exception):
    """Base of all that the client raises on purpose."""


class UnreachableError(ClientError):
    """No answer came: nobody listens, the connection broke, or the time was over.

    `may_have_arrived`: the request was on its way, so it may have been carried out.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class WaitTimeoutError(ClientError, TimeoutError):
    """The job has not ended in the time that `wait` was given. It goes on; ask again."""


class RefusedError(ClientError):
    """The API answered, and it was no. `problem` is its explanation."""

    def __init__(self, problem: Problem) -> None:
        fields = "".join(f"; {path}: {message}" for path, message in problem.errors)
        super().__init__(f"{problem.detail or problem.title}{fields}")
        self.problem = problem

    @property
    def code(self) -> str:
        """The problem's short name, for programs."""
        return self.problem.code

    @property
    def correlation_id(self) -> str | None:
        """By which the logs of the service name this request."""
        return self.problem.correlation_id


class InvalidRequestError(RefusedError):
    """The request is wrong (400, 413, 415, 422): change it. `problem.errors` names the fields."""


class UnauthorizedError(RefusedError):
    """The token is missing, wrong or has expired (401): get another one."""


class ForbiddenError(RefusedError):
    """The token's roles do not allow this (403)."""


class NotFoundError(RefusedError):
    """There is no such thing, or not for this tenant and user (404)."""


class ConflictError(RefusedError):
    """The state of the thing forbids it (409): look again before trying again."""


class BusyError(RefusedError):
    """Too much at once (429): wait `retry_after` seconds."""

    @property
    def retry_after(self) -> float:
        """Seconds to wait before the next try."""
        return self.problem.retry_after_seconds or 1.0


class QueueFullError(BusyError):
    """The queue takes no more jobs for now."""


class RateLimitedError(BusyError):
    """The tenant's or the user's rate is spent."""


class UnavailableError(RefusedError):
    """A part of the service is away (503), and nothing was accepted: try again."""


class OutcomeUnknownError(UnavailableError):
    """The service cannot know whether it stored the job (503). Send again with the same Idempotency-Key."""


class UnexpectedAnswerError(RefusedError):
    """The service failed (500), or something that is not the API has answered."""


_BY_STATUS: Final[dict[int, type[RefusedError]]] = {
    400: InvalidRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: BusyError,
    502: UnavailableError,
    503: UnavailableError,
    504: UnavailableError,
}
_BY_CODE: Final[dict[str, type[RefusedError]]] = {
    "queue_full": QueueFullError,
    "rate_limited": RateLimitedError,
    "outcome_unknown": OutcomeUnknownError,
}


def refusal(problem: Problem) -> RefusedError:
    """The error for a problem: by its code where that says more than the status."""
    by_status = _BY_STATUS.get(problem.status, UnexpectedAnswerError)
    return _BY_CODE.get(problem.code, by_status)(problem)
