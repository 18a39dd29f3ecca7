"""Problem documents (RFC 9457), and the one table from errors to answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from ferryman import ports
from ferryman.api.rates import rate_headers
from ferryman.auth.keys import KeysUnavailableError, TokenRefusedError
from ferryman.auth.policy import ForbiddenError, TenantRequiredError
from ferryman.lifecycle import failures as lifecycle

_ENCODER: Final = msgspec.json.Encoder()


class FieldError(msgspec.Struct, frozen=True):
    """One bad field: where it is, what it takes and what came."""

    path: str
    message: str


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every error."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    correlationId: str  # noqa: N815 - as on the wire
    errors: Sequence[FieldError] = ()
    jobId: str | None = None  # noqa: N815
    jobIds: Sequence[str] = ()  # noqa: N815


# Every code that an answer may carry: its status and its title.
CODES: Final[dict[str, tuple[int, str]]] = {
    "malformed_request": (400, "The bytes are no HTTP request that can be read"),
    "invalid_json": (400, "The body is not a JSON document that can be taken"),
    "invalid_request": (400, "The request has fields that cannot be taken"),
    "invalid_cursor": (400, "The cursor is broken"),
    "token_in_url": (400, "A token must not stand in the URL"),
    "tenant_required": (400, "The call needs a tenant"),
    "too_many_at_once": (400, "The call has more jobs than the burst allows"),
    "unauthorized": (401, "The request carries no valid token"),
    "forbidden": (403, "The token's roles do not allow this"),
    "origin_refused": (403, "Pages of this origin may not read events"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "The path does not take this method"),
    "request_timeout": (408, "The body did not come in time"),
    "already_final": (409, "The job has ended"),
    "not_retryable": (409, "The job cannot be retried"),
    "not_dead": (409, "The dead letter is closed"),
    "twin_unfinished": (409, "An unfinished job holds the same unique key"),
    "idempotency_in_flight": (409, "The first request with this key is not answered yet"),
    "digest_unknown": (409, "The preview is unknown or spent"),
    "built_in": (409, "The queue always exists, or its name is kept"),
    "too_many_webhooks": (409, "The tenant has as many webhooks as it may"),
    "queue_not_empty": (409, "The queue has unfinished jobs"),
    "worker_alive": (409, "The worker still beats"),
    "body_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body's media type is not taken"),
    "unsupported_encoding": (415, "The body's encoding is not taken"),
    "not_a_stream": (406, "The call answers with a stream of events only"),
    "expectation_failed": (417, "The expectation cannot be met"),
    "query_too_expensive": (422, "The filter matches too much to look through"),
    "idempotency_mismatch": (422, "The key came with another request before"),
    "unknown_queue": (422, "There is no such queue"),
    "queue_full": (429, "The queue is full"),
    "rate_limited": (429, "The rate limit is spent"),
    "too_many_streams": (429, "The user holds too many event streams open"),
    "too_many_waits": (429, "Too many requests are held open"),
    "internal_error": (500, "The request failed"),
    "ledger_unavailable": (503, "The ledger is away, and nothing was accepted"),
    "keys_unavailable": (503, "The keys that tokens are checked by are away"),
    "outcome_unknown": (503, "Whether the submission was accepted is not known"),
}


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer that is an error."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        job_ids: Sequence[str] = (),
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status, self.title = CODES[code]
        self.errors = errors
        self.headers = headers or {}
        self.job_ids = job_ids

    def document(self, correlation_id: str) -> ProblemDocument:
        """The body; `type` leads to the code's entry in the reference page."""
        single = len(self.job_ids) == 1
        return ProblemDocument(
            type=f"/docs#problem-{self.code}",
            title=self.title,
            status=self.status,
            detail=str(self),
            code=self.code,
            correlationId=correlation_id,
            errors=self.errors,
            jobId=self.job_ids[0] if single else None,
            jobIds=() if single else self.job_ids,
        )


def problem_response(problem: Problem, correlation_id: str) -> web.Response:
    """The answer that a problem is."""
    return web.Response(
        status=problem.status,
        body=_ENCODER.encode(problem.document(correlation_id)),
        headers=problem.headers,
        content_type="application/problem+json",
    )


def invalid(*errors: FieldError) -> Problem:
    """A 400 that names every field that was found wrong."""
    paths = ", ".join(error.path for error in errors[:5])
    more = f" and {len(errors) - 5} more" if len(errors) > 5 else ""
    return Problem("invalid_request", f"cannot be taken: {paths}{more}", errors=errors)


_SIMPLE: Final[dict[type[Exception], str]] = {
    ForbiddenError: "forbidden",
    TenantRequiredError: "tenant_required",
    lifecycle.NotFoundError: "not_found",
    lifecycle.AlreadyFinalError: "already_final",
    lifecycle.NotRetryableError: "not_retryable",
    lifecycle.NotDeadError: "not_dead",
    lifecycle.TwinUnfinishedError: "twin_unfinished",
    lifecycle.TooManyAtOnceError: "too_many_at_once",
    lifecycle.KeyMismatchError: "idempotency_mismatch",
    lifecycle.KeyBusyError: "idempotency_in_flight",
    lifecycle.BuiltInQueueError: "built_in",
    lifecycle.WorkerAliveError: "worker_alive",
    lifecycle.TooManyWebhooksError: "too_many_webhooks",
    ports.UnknownQueueError: "unknown_queue",
    ports.QueueNotEmptyError: "queue_not_empty",
}


def problem_of(error: Exception) -> Problem:
    """The answer to an error. What is not expected says nothing of itself."""
    if isinstance(error, Problem):
        return error
    if (code := _SIMPLE.get(type(error))) is not None:
        return Problem(code, str(error))
    match error:
        case TokenRefusedError():
            return Problem(
                "unauthorized",
                "the call takes a valid token in the header Authorization: Bearer <token>",
                headers={"WWW-Authenticate": 'Bearer realm="ferryman"'},
            )
        case KeysUnavailableError():
            return Problem("keys_unavailable", str(error), headers=_retry_after(5_000))
        case ports.QueueFullError():
            return Problem("queue_full", str(error), headers=_retry_after(error.retry_after_ms))
        case lifecycle.RateLimitedError(standing=standing):
            headers = {**_retry_after(standing.retry_after_ms or 0), **rate_headers(standing)}
            return Problem("rate_limited", str(error), headers=headers)
        case lifecycle.TooManyStreamsError():
            return Problem("too_many_streams", str(error), headers=_retry_after(10_000))
        case lifecycle.TooManyWaitsError():
            return Problem("too_many_waits", str(error), headers=_retry_after(1_000))
        case ports.DigestUnknownError():
            return Problem("digest_unknown", "the digest is of no open preview of this tenant")
        case ports.RejectedDataError():
            return Problem("invalid_request", "the ledger cannot store a value of this request")
        case ports.QueryTooExpensiveError():
            return Problem(
                "query_too_expensive", "make the filter narrower: a shorter time, one queue, one type"
            )
        case ports.OutcomeUnknownError():
            return Problem(
                "outcome_unknown",
                "ask for the job by its id, or send the same again with the same Idempotency-Key",
                headers=_retry_after(1_000),
                job_ids=[str(job_id) for job_id in error.job_ids],
            )
        case ports.LedgerError() | TimeoutError():
            return Problem(
                "ledger_unavailable", "nothing was accepted; try again", headers=_retry_after(1_000)
            )
        case _:
            return Problem("internal_error", "the failure was logged under the correlation id")


def _retry_after(milliseconds: int) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(milliseconds / 1_000)))}
