"""The one middleware: a name for each request, every error as a problem document, counts and logs."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from ferryman.api.exchange import correlation_id
from ferryman.api.keys import CORRELATION, RATE
from ferryman.api.problems import Problem, problem_of, problem_response
from ferryman.api.rates import rate_headers
from ferryman.auth.tokens import TokenRefusedError
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

COMMON_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "ferryman",
}
# What aiohttp raises by itself, by status.
_BY_STATUS: Final[Mapping[int, tuple[str, str]]] = {
    404: ("not_found", "there is no such path"),
    413: ("body_too_large", "the body is larger than this server takes"),
    417: ("expectation_failed", "Expect takes 100-continue only"),
}


def make_edge(metrics: Metrics) -> Middleware:
    """The middleware. It never lets an exception pass but cancellation."""

    @web.middleware
    async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        correlation = correlation_id(request)
        request[CORRELATION] = correlation
        try:
            response = await handler(request)
        except Exception as error:
            response = _problem_response(_known(error), correlation, error, request)
        if (standing := request.get(RATE)) is not None and "RateLimit-Limit" not in response.headers:
            response.headers.update(rate_headers(standing))
        response.headers.update(COMMON_HEADERS)
        response.headers["X-Correlation-Id"] = correlation
        _report(metrics, request, response, time.perf_counter() - started)
        return response

    return edge


def _known(error: Exception) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem("method_not_allowed", f"the path takes {allowed}", headers={"Allow": allowed})
    if isinstance(error, web.HTTPException) and error.status in _BY_STATUS:
        return Problem(*_BY_STATUS[error.status])
    return problem_of(error)


def _problem_response(
    problem: Problem, correlation: str, error: Exception, request: web.Request
) -> web.Response:
    fields = {"correlation_id": correlation, "code": problem.code, "method": request.method}
    if problem.code == "internal_error":
        log.error(names.REQUEST_FAILED, exc_info=error, extra=fields)
    elif problem.status >= 500:
        log.warning(names.REQUEST_FAILED, extra=fields)
    elif isinstance(error, TokenRefusedError):
        log.info(names.REQUEST_FAILED, extra={**fields, "reason": str(error)})
    else:
        log.debug(names.REQUEST_FAILED, extra=fields)
    return problem_response(problem, correlation)


def _report(metrics: Metrics, request: web.Request, response: web.StreamResponse, seconds: float) -> None:
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "(none)"
    metrics.count(names.REQUESTS_TOTAL, method=request.method, path=path, status=str(response.status))
    metrics.count(names.REQUEST_SECONDS, seconds, method=request.method, path=path)
    if log.isEnabledFor(logging.DEBUG):
        log.debug(
            names.REQUEST_DONE,
            extra={
                "method": request.method,
                "route": path,
                "status": response.status,
                "ms": round(seconds * 1_000, 1),
                "correlation_id": request[CORRELATION],
            },
        )
