"""What a run of one caller or many says about itself, the same words for everybody measured."""

from __future__ import annotations

from collections.abc import Sequence


def summary(jobs: int, seconds: float, latencies_s: Sequence[float]) -> dict[str, float]:
    """`jobs`, `per_second`, and `p50_ms`, `p95_ms`, `p99_ms` of the latencies."""
    return {"jobs": jobs, "per_second": jobs / seconds, **percentiles([s * 1000 for s in latencies_s])}


def percentiles(values_ms: Sequence[float]) -> dict[str, float]:
    """`p50_ms`, `p95_ms`, `p99_ms` by nearest rank; nothing of nothing."""
    ordered = sorted(values_ms)
    if not ordered:
        return {}
    return {f"p{p}_ms": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99)}
