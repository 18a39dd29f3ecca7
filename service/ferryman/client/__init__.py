"""The client of the API: `Client`, what it answers, and what it raises."""

from ferryman.client.answers import Job, JobFailure, JobPage, Progress, Submitted
from ferryman.client.client import Client
from ferryman.client.failures import (
    BusyError,
    ClientError,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    Problem,
    QueueFullError,
    RateLimitedError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnreachableError,
    WaitTimeoutError,
)

__all__ = [
    "BusyError",
    "Client",
    "ClientError",
    "ConflictError",
    "ForbiddenError",
    "InvalidRequestError",
    "Job",
    "JobFailure",
    "JobPage",
    "NotFoundError",
    "OutcomeUnknownError",
    "Problem",
    "Progress",
    "QueueFullError",
    "RateLimitedError",
    "RefusedError",
    "Submitted",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnreachableError",
    "WaitTimeoutError",
]
