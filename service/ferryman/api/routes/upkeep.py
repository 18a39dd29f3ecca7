"""Upkeep by hand or by CronJob: retention, and the reconciliation of dead letters."""

from __future__ import annotations

from typing import Final

from ferryman.api.bodies import BodyReader
from ferryman.api.exchange import Answer, Exchange
from ferryman.api.queue_views import RedriveView, RetentionView, retention_view
from ferryman.api.routing import Example, Route
from ferryman.api.schemas import ReconcileOrder, RetentionOrder
from ferryman.api.services import Services
from ferryman.api.views import PreviewView, letter_view
from ferryman.auth.policy import Call
from ferryman.core.failures import ErrorClass
from ferryman.ports import LetterFilter

_BATCH: Final = 100


async def retention(services: Services, exchange: Exchange) -> Answer:
    order: RetentionOrder = exchange.body or RetentionOrder()
    dry_run = bool(order.dry_run)
    result = await services.upkeep.retention(exchange.asker, queue=order.queue, dry_run=dry_run)
    return Answer(200, retention_view(result, dry_run=dry_run))


async def reconcile(services: Services, exchange: Exchange) -> Answer:
    order: ReconcileOrder = exchange.body or ReconcileOrder()
    wanted = _filter(order)
    batch_size = order.batch_size or _BATCH
    if order.dry_run:
        preview = await services.upkeep.preview(
            exchange.asker, wanted, max_redrives=order.max_redrives, batch_size=batch_size
        )
        sample = [letter_view(letter, is_listed=True) for letter in preview.sample]
        return Answer(200, PreviewView(preview.matched, sample, preview.digest))
    result = await services.upkeep.redrive(
        exchange.asker,
        wanted,
        digest=order.digest,
        max_redrives=order.max_redrives,
        batch_size=batch_size,
        reset_retries=order.reset_retries is not False,
        rate_per_second=order.rate_per_second,
    )
    return Answer(200, RedriveView(result.requeued, result.skipped, result.remaining))


def _filter(order: ReconcileOrder) -> LetterFilter:
    classes = order.error_class or []
    return LetterFilter(
        queue=order.queue,
        type=order.type,
        error_classes=(classes,) if isinstance(classes, ErrorClass) else tuple(classes),
        fingerprint=order.fingerprint,
        older_than_ms=order.older_than_ms,
        newer_than_ms=order.newer_than_ms,
    )


ROUTES: Final = (
    Route(
        method="POST",
        path="/api/jobs/retention",
        name="applyRetention",
        summary="Delete what is older than the retention policies allow",
        details="A service without X-Tenant-Id works across tenants.",
        tag="upkeep",
        call=Call.RETENTION,
        handle=retention,
        is_bounded=False,
        body=BodyReader(RetentionOrder),
        body_required=False,
        answers={200: (RetentionView, "How many rows went; with `dryRun`: would go")},
        problems=("unknown_queue",),
        examples=(Example(body={"queue": "default", "dryRun": True}),),
    ),
    Route(
        method="POST",
        path="/api/jobs/reconcile-dead-letter",
        name="reconcileDeadLetters",
        summary="Requeue dead letters that match",
        details=(
            "A dry run answers `matched`, `sample` and a `digest`; an apply that presents the digest moves "
            "exactly what was previewed. Without a digest it moves what matches now, `batchSize` at most. "
            "`ratePerSecond` spreads the starts."
        ),
        tag="upkeep",
        call=Call.RECONCILE,
        handle=reconcile,
        is_bounded=False,
        body=BodyReader(ReconcileOrder),
        body_required=False,
        answers={200: (RedriveView, "What was moved, or what would be")},
        problems=("digest_unknown",),
        examples=(
            Example(body={"queue": "default", "errorClass": "TRANSIENT", "dryRun": True}),
            Example(body={"queue": "default", "batchSize": 10, "ratePerSecond": 5}),
        ),
    ),
)
