"""Jobs: submit, read, wait, cancel, retry."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ferryman.api.bodies import BodyReader, QueryReader
from ferryman.api.cursors import decode_cursor, encode_cursor
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.problems import Problem
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import (
    BulkSubmission,
    HistoryQuery,
    JobsQuery,
    JobSubmission,
    WaitQuery,
    given,
    order_of,
    orders_of,
)
from ferryman.api.services import Services
from ferryman.api.views import (
    BulkView,
    ChangedView,
    HistoryView,
    JobsView,
    JobView,
    SubmittedView,
    job_view,
    submitted_view,
    timed,
)
from ferryman.auth.policy import Call
from ferryman.lifecycle.failures import NotFoundError
from ferryman.ports import JobFilter

_JOBS: Final = "jobs"
_HISTORY: Final = "history"


async def submit(services: Services, exchange: Exchange) -> Answer:
    _refuse_idempotency_key(exchange)
    asker = exchange.asker
    order = order_of(exchange.body, now=services.given.clock.now())
    inserted = await services.submission.submit(asker, order)
    view = submitted_view(
        inserted,
        order.type,
        user_id=asker.principal.user_id or 0,
        correlation_id=asker.correlation_id,
        trace_id=asker.trace_id,
    )
    status = 200 if inserted.duplicate else 201
    return Answer(status, view, {"Location": f"/api/jobs/{view.job_id}"})


async def submit_bulk(services: Services, exchange: Exchange) -> Answer:
    _refuse_idempotency_key(exchange)
    asker = exchange.asker
    orders = orders_of(exchange.body, now=services.given.clock.now())
    inserted = await services.submission.submit_all(asker, orders)
    views = [
        submitted_view(
            one,
            order.type,
            user_id=asker.principal.user_id or 0,
            correlation_id=asker.correlation_id,
            trace_id=asker.trace_id,
        )
        for order, one in zip(orders, inserted, strict=True)
    ]
    return Answer(200 if all(one.duplicate for one in inserted) else 201, BulkView(views))


async def list_jobs(services: Services, exchange: Exchange) -> Answer:
    query: JobsQuery = exchange.query
    wanted = JobFilter(
        statuses=tuple(query.status),
        types=tuple(query.type),
        queues=tuple(query.queue),
        tags=tuple(query.tag),
        user_ids=tuple(query.user_id),
        metadata=query.metadata,
        created_after=given(query.created_after),
        created_before=given(query.created_before),
    )
    after = decode_cursor(_JOBS, query.cursor) if query.cursor else None
    page = await services.lookup.jobs(exchange.asker, wanted, limit=query.limit, after=after)
    next_cursor = encode_cursor(_JOBS, page.next_after) if page.next_after else None
    return Answer(200, JobsView([job_view(job, is_listed=True) for job in page.rows], next_cursor))


async def get_job(services: Services, exchange: Exchange) -> Answer:
    job = await services.lookup.job(exchange.asker, exchange.id("jobId", "job"))
    return Answer(200, job_view(job, attempts=await services.lookup.attempts(job)))


async def history(services: Services, exchange: Exchange) -> Answer:
    query: HistoryQuery = exchange.query
    after = decode_cursor(_HISTORY, query.cursor) if query.cursor else None
    page = await services.lookup.history(
        exchange.asker, exchange.id("jobId", "job"), limit=query.limit, after=after
    )
    next_cursor = encode_cursor(_HISTORY, page.next_after) if page.next_after else None
    return Answer(200, HistoryView(timed(page.rows), next_cursor))


async def wait(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    job = await services.lookup.job(exchange.asker, job_id)
    await services.waits.until_final(job, at_most_ms=exchange.query.timeout_ms)
    with suppress(NotFoundError):  # retention took it: what was read before is the best that is known
        job = await services.lookup.job(exchange.asker, job_id)
    return Answer(200, job_view(job, attempts=await services.lookup.attempts(job)))


async def cancel(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    status = await services.changes.cancel(exchange.asker, job_id)
    return Answer(202, ChangedView(str(job_id), status))


async def retry(services: Services, exchange: Exchange) -> Answer:
    job_id = exchange.id("jobId", "job")
    status = await services.changes.retry(exchange.asker, job_id)
    return Answer(202, ChangedView(str(job_id), status))


def _refuse_idempotency_key(exchange: Exchange) -> None:
    if "Idempotency-Key" in exchange.request.headers:
        raise Problem("not_supported", "Idempotency-Key is not taken yet; uniqueKey is")


ROUTES: Final = (
    Route(
        method="POST",
        path="/api/jobs",
        name="submitJob",
        summary="Submit one job",
        details="The job is stored durably before the answer. `message` is the short form of an `input`.",
        tag="jobs",
        call=Call.JOB_SUBMIT,
        handle=submit,
        body=BodyReader(JobSubmission),
        answers={
            201: (SubmittedView, "The job is stored; Location leads to it"),
            200: (SubmittedView, "An unfinished job holds the uniqueKey"),
        },
        problems=("not_supported", "unknown_queue", "queue_full", "outcome_unknown"),
        examples=(
            Example(
                body={"message": "Test enterprise job pipeline", "type": "chat"},
                status=201,
            ),
            Example(
                body={
                    "type": "notification",
                    "input": {"to": "ann@example.org", "template": "welcome"},
                    "queue": "high_priority",
                    "priority": 10,
                    "delayMs": 60000,
                    "tags": ["welcome"],
                    "metadata": {"order": 1234},
                },
                status=201,
            ),
        ),
    ),
    Route(
        method="POST",
        path="/api/jobs/bulk",
        name="submitJobs",
        summary="Submit up to 1,000 jobs, all or none",
        tag="jobs",
        call=Call.JOB_SUBMIT,
        handle=submit_bulk,
        body=BodyReader(BulkSubmission, envelope=3),
        answers={
            201: (BulkView, "The jobs are stored, in the order of the request"),
            200: (BulkView, "Every job was there before"),
        },
        problems=("not_supported", "unknown_queue", "queue_full", "outcome_unknown"),
        examples=(
            Example(
                body={
                    "jobs": [
                        {"type": "chat", "message": "one"},
                        {"type": "memory", "input": {"key": "two"}, "queue": "background"},
                    ]
                },
                status=201,
            ),
        ),
    ),
    Route(
        method="GET",
        path="/api/jobs",
        name="listJobs",
        summary="List jobs, newest first",
        details="Filters of one name are alternatives; several names, tags and metadata must all hold.",
        tag="jobs",
        call=Call.JOB_READ,
        handle=list_jobs,
        query=QueryReader(JobsQuery),
        answers={200: (JobsView, "One page")},
        problems=("invalid_cursor", "query_too_expensive"),
        examples=(
            Example(query="status=pending&status=running&limit=20"),
            Example(query="metadata.order=1234"),
        ),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}",
        name="getJob",
        summary="Read a job with its attempts and retry state",
        tag="jobs",
        call=Call.JOB_READ,
        handle=get_job,
        answers={200: (JobView, "The job")},
        problems=("not_found",),
        examples=(Example(),),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}/history",
        name="getJobHistory",
        summary="Read what happened to a job, oldest first",
        tag="jobs",
        call=Call.JOB_READ,
        handle=history,
        query=QueryReader(HistoryQuery),
        answers={200: (HistoryView, "Audit rows of the job")},
        problems=("not_found", "invalid_cursor"),
        examples=(Example(query="limit=100"),),
    ),
    Route(
        method="GET",
        path="/api/jobs/{jobId}/wait",
        name="waitForJob",
        summary="Read a job as soon as it has ended, or when the time is over",
        tag="jobs",
        call=Call.JOB_READ,
        handle=wait,
        query=QueryReader(WaitQuery),
        answers={200: (JobView, "The job, ended or not")},
        problems=("not_found", "too_many_waits"),
        examples=(Example(query="timeoutMs=10"),),
    ),
    Route(
        method="POST",
        path="/api/jobs/{jobId}/cancel",
        name="cancelJob",
        summary="Cancel a job",
        details="A waiting job ends at once, a running one within two heartbeats of its worker.",
        tag="jobs",
        call=Call.JOB_CHANGE,
        handle=cancel,
        answers={202: (ChangedView, "It has ended, or was asked to stop")},
        problems=("not_found", "already_final"),
        headers=("X-Override-Reason",),
        examples=(Example(status=202),),
    ),
    Route(
        method="POST",
        path="/api/jobs/{jobId}/retry",
        name="retryJob",
        summary="Run a retrying job now, or requeue a dead letter",
        tag="jobs",
        call=Call.JOB_CHANGE,
        handle=retry,
        answers={202: (ChangedView, "It is ready to run")},
        problems=("not_found", "not_retryable", "twin_unfinished", "unknown_queue"),
        headers=("X-Override-Reason",),
    ),
)
