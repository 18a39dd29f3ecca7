"""Figures: of a queue at this instant, and of what ended in a window of time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ferryman.core.histogram import quantile
from ferryman.ledger.instants import rfc3339
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ports import Crew, LedgerFigures, QueueFigures, Scope, StatsQuery

WORKER_SILENT_MS: Final = 6_000
ENDED: Final = ("completed", "dead_letter", "cancelled", "expired")
# What a handler ended: these waited for it and ran.
_HANDLED: Final = ("completed", "dead_letter")
_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_MINUTE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LedgerReports:
    """`Reports` on PostgreSQL. Every method raises QueryTooExpensiveError, LedgerUnavailableError."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def ledger_figures(
        self, queue: str, *, tenant_id: str | None, horizons_ms: Sequence[int]
    ) -> LedgerFigures:
        """As `Reports.ledger_figures`. Jobs that are due already are in no horizon."""
        row = await self._pools.as_tenant(tenant_id).read.fetchrow(
            statement("ledger_figures"), queue, tenant_id, list(horizons_ms), WORKER_SILENT_MS
        )
        same = {name: row[name] for name in LedgerFigures.__struct_fields__ if name != "due_within_ms"}
        return LedgerFigures(due_within_ms=dict(zip(horizons_ms, row["due"], strict=True)), **same)

    async def counts(self, queue: str, *, tenant_id: str | None) -> QueueFigures:
        """As `Reports.counts`."""
        pools = self._pools.as_tenant(tenant_id)
        row = await pools.read.fetchrow(statement("count_unfinished"), queue, tenant_id)
        return QueueFigures(**{name: row[name] for name in QueueFigures.__struct_fields__})

    async def crew(self, queue: str, job_type: str) -> Crew:
        """As `Reports.crew`."""
        row = await self._pools.read.fetchrow(statement("crew"), queue, job_type, WORKER_SILENT_MS)
        return Crew(**{name: row[name] for name in Crew.__struct_fields__})

    async def stats(self, scope: Scope, query: StatsQuery) -> Mapping[str, object]:
        """As `Reports.stats`. Counted are whole minutes, from the one of `start` to the one of `end`; `from`
        and `to` in the answer say which instants these reach.
        """
        start, end = _floor(query.start), _ceiling(query.end)
        rows = await self._pools.as_tenant(scope.tenant_id).read.fetch(
            statement("read_stats"), scope.tenant_id, start, end, query.queue, query.type
        )
        until = min(end, max(query.end, rows[0]["now"]))
        return summary([row for row in rows if row["outcome"] is not None], start, until, rows[0]["now"])


def summary(rows: Iterable[Any], start: datetime, end: datetime, now: datetime) -> Mapping[str, object]:
    """The answer of `GET /api/jobs/stats` from sums by outcome, `wait_bucket` and `run_bucket`.

    `counts`: jobs submitted in the window, and jobs that ended in it by their status. Rates are fractions of
    the ended, null when none ended. Percentiles are of the last wait and the last attempt of what a handler
    ended, completed or dead, null when there was none. Throughput is what handlers ended in a second of the
    window, as far as it has passed.
    """
    outcomes: Counter[str] = Counter()
    waits: Counter[int] = Counter()
    runs: Counter[int] = Counter()
    for row in rows:
        outcomes[row["outcome"]] += row["jobs"]
        if row["outcome"] in _HANDLED:
            waits[row["wait_bucket"]] += row["jobs"]
            runs[row["run_bucket"]] += row["jobs"]
    ended = sum(outcomes[status] for status in ENDED)
    handled = sum(outcomes[status] for status in _HANDLED)
    seconds = (min(end, now) - start).total_seconds()
    return {
        "from": rfc3339(start),
        "to": rfc3339(end),
        "counts": {status: outcomes[status] for status in ("submitted", *ENDED)},
        "successRate": outcomes["completed"] / ended if ended else None,
        "failureRate": outcomes["dead_letter"] / ended if ended else None,
        "retries": outcomes["retried"],
        "deadLetters": outcomes["dead_letter"],
        "waitMs": _percentiles(waits),
        "processingMs": _percentiles(runs),
        "throughputPerSecond": round(handled / seconds, 6) if seconds > 0 else 0.0,
    }


def _percentiles(counts: Mapping[int, int]) -> Mapping[str, int | None]:
    found = {name: quantile(counts, q) for name, q in _QUANTILES.items()}
    return {name: None if value is None else round(value) for name, value in found.items()}


def _floor(at: datetime) -> datetime:
    return at - (at - _EPOCH) % _MINUTE


def _ceiling(at: datetime) -> datetime:
    return at + (_EPOCH - at) % _MINUTE
