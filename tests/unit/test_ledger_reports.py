"""The sums of the statistics as REST shows them."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.histogram import BOUNDS_MS
from ferryman.core.status import STATS_OUTCOMES
from ferryman.ledger.reports import ENDED, summary

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)

buckets = st.integers(0, len(BOUNDS_MS))
sums = st.fixed_dictionaries(
    {
        "outcome": st.sampled_from(sorted(set(STATS_OUTCOMES.values()))),
        "wait_bucket": buckets,
        "run_bucket": buckets,
        "jobs": st.integers(1, 1_000_000),
    }
)


def row(outcome: str, jobs: int = 1, wait: int = 0, run: int = 0) -> dict[str, Any]:
    return {"outcome": outcome, "jobs": jobs, "wait_bucket": wait, "run_bucket": run}


@given(st.lists(sums))
def test_a_summary_is_consistent(rows: list[dict[str, Any]]) -> None:
    found: Any = summary(rows, NOON, NOON + HOUR, NOON + 2 * HOUR)
    counted = Counter[str]()
    for one in rows:
        counted[one["outcome"]] += one["jobs"]
    assert found["counts"] == {status: counted[status] for status in ("submitted", *ENDED)}
    assert (found["retries"], found["deadLetters"]) == (counted["retried"], counted["dead_letter"])
    ended = sum(counted[status] for status in ENDED)
    if not ended:
        assert (found["successRate"], found["failureRate"]) == (None, None)
    else:
        assert found["successRate"] == pytest.approx(counted["completed"] / ended)
        assert found["failureRate"] == pytest.approx(counted["dead_letter"] / ended)
    for shown in (found["waitMs"], found["processingMs"]):
        values = [shown[name] for name in ("p50", "p95", "p99")]
        if counted["completed"] + counted["dead_letter"]:
            assert values == sorted(values)
        else:
            assert values == [None, None, None]


def test_percentiles_are_of_what_handlers_ended() -> None:
    rows = [row("completed", 99, wait=3, run=10), row("cancelled", 500, 20, 20), row("retried", 500, 20, 20)]
    found: Any = summary(rows, NOON, NOON + HOUR, NOON + HOUR)
    assert BOUNDS_MS[2] < found["waitMs"]["p50"] <= BOUNDS_MS[3]
    assert BOUNDS_MS[9] < found["processingMs"]["p99"] <= BOUNDS_MS[10]


def test_throughput_counts_the_time_that_has_passed() -> None:
    rows = [row("completed", 90), row("dead_letter", 10), row("expired", 1_000)]
    for now, seconds in ((NOON + HOUR, 3600), (NOON + 2 * HOUR, 3600), (NOON + timedelta(seconds=50), 50)):
        found: Any = summary(rows, NOON, NOON + HOUR, now)
        assert found["throughputPerSecond"] == round(100 / seconds, 6)
    ahead: Any = summary([], NOON, NOON + HOUR, NOON - HOUR)
    assert ahead["throughputPerSecond"] == 0.0


def test_instants_are_written_as_everywhere() -> None:
    found = summary([], NOON, NOON + timedelta(milliseconds=1500), NOON)
    assert (found["from"], found["to"]) == ("2026-05-01T12:00:00.000Z", "2026-05-01T12:00:01.500Z")
