"""One connection of a client: what is said to bytes that are no HTTP."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from ferryman.api.middlewares import COMMON_HEADERS
from ferryman.api.problems import Problem, problem_response
from ferryman.telemetry import names

log = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 8_190


class Connection(web.RequestHandler):
    """Answers a request that cannot be read with a problem document.

    aiohttp by itself repeats the start of the bad line in the answer and in its log, and that may be a token.
    """

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer; the connection ends after it. Raises ConnectionError when an answer is on its way."""
        problem = _problem(status, exc)
        correlation = secrets.token_hex(16)
        fields = {"correlation_id": correlation, "code": problem.code, "reason": type(exc).__name__}
        if problem.status < 500:
            log.info(names.REQUEST_FAILED, extra=fields)
        else:
            log.error(names.REQUEST_FAILED, exc_info=exc, extra=fields)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        response = problem_response(problem, correlation)
        response.headers.update(COMMON_HEADERS)
        response.headers["X-Correlation-Id"] = correlation
        response.force_close()
        return response


def _problem(status: int, error: BaseException | None) -> Problem:
    if status != 400:
        return Problem("internal_error", "the failure was logged under the correlation id")
    if isinstance(error, LineTooLong):
        detail = f"the request line and each header take at most {MAX_LINE_BYTES} bytes"
        return Problem("malformed_request", detail)
    return Problem("malformed_request", "the bytes that came are no request of HTTP/1.1")
