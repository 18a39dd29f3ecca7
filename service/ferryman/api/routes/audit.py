"""The audit of a tenant."""

from __future__ import annotations

from typing import Final

from ferryman.api.bodies import QueryReader
from ferryman.api.cursors import encode_mark, read_mark
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import AuditQuery, given
from ferryman.api.services import Services
from ferryman.api.views import AuditView
from ferryman.auth.policy import Call
from ferryman.ports import AuditFilter

_AUDIT: Final = "audit"


async def list_audit(services: Services, exchange: Exchange) -> Answer:
    query: AuditQuery = exchange.query
    wanted = AuditFilter(
        actor_id=given(query.actor),
        action=given(query.action),
        job_id=given(query.job_id),
        queue=given(query.queue),
        start=given(query.from_),
        end=given(query.to),
    )
    after = read_mark(_AUDIT, query.cursor)
    page = await services.lookup.audit(exchange.asker, wanted, limit=query.limit, after=after)
    next_cursor = encode_mark(_AUDIT, page.next_after) if page.next_after else None
    return Answer(200, AuditView([dict(row) for row in page.rows], next_cursor))


ROUTES: Final = (
    Route(
        method="GET",
        path="/api/audit",
        name="listAudit",
        summary="List what was done to the tenant's jobs and by whom, newest first",
        details="`actor` is the id of who did it. Rows outlive their jobs as long as retention keeps them.",
        tag="audit",
        call=Call.AUDIT_READ,
        handle=list_audit,
        query=QueryReader(AuditQuery),
        answers={200: (AuditView, "One page")},
        problems=("invalid_cursor", "query_too_expensive"),
        examples=(Example(query="action=submitted&queue=default&from=2026-01-01T00:00:00Z"), Example()),
    ),
)
