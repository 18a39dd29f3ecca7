import math
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.histogram import BOUNDS_MS, bucket, quantile
from ferryman.core.ids import uuid7
from ferryman.core.priority import MAX_AGING_MS, priority_of, score

READY_MS = st.integers(1_500_000_000_000, 4_000_000_000_000)
PRIORITY = st.integers(0, 100)
AGING_MS = st.integers(0, MAX_AGING_MS)


@given(READY_MS, PRIORITY, AGING_MS)
def test_a_score_is_exact_and_gives_its_priority_back(ready_ms: int, priority: int, aging_ms: int) -> None:
    value = score(ready_ms=ready_ms, priority=priority, aging_ms=aging_ms)
    assert math.floor(value) == ready_ms - priority * aging_ms
    assert priority_of(value) == priority
    assert float(f"{value:.17g}") == value


@given(READY_MS, st.integers(0, 99), st.integers(1, MAX_AGING_MS), st.integers(0, 10**9))
def test_a_level_of_priority_is_worth_its_aging(ready_ms: int, low: int, aging_ms: int, later: int) -> None:
    waited = score(ready_ms=ready_ms, priority=low, aging_ms=aging_ms)
    urgent = score(ready_ms=ready_ms + later, priority=low + 1, aging_ms=aging_ms)
    if later < aging_ms:
        assert urgent < waited
    elif later > aging_ms:
        assert waited < urgent


@given(st.integers(0, 10**12))
def test_a_duration_lies_in_its_bucket(ms: int) -> None:
    number = bucket(ms)
    assert number == len(BOUNDS_MS) or ms <= BOUNDS_MS[number]
    assert number == 0 or ms > BOUNDS_MS[number - 1]


@given(st.lists(st.integers(0, 80_000_000), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_errs_by_less_than_its_bucket(durations: list[int], q: float) -> None:
    counts: dict[int, int] = {}
    for ms in durations:
        counts[bucket(ms)] = counts.get(bucket(ms), 0) + 1
    exact = sorted(durations)[max(0, math.ceil(q * len(durations)) - 1)]
    found = quantile(counts, q)
    assert found is not None
    assert bucket(exact) == 0 or found >= BOUNDS_MS[bucket(exact) - 1]
    assert found <= BOUNDS_MS[bucket(exact)]


def test_no_durations_have_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert quantile({3: 0}, 0.5) is None


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_is_one_and_keeps_its_time(now_ms: int, random_bytes: bytes) -> None:
    made = uuid7(now_ms, random_bytes)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert made.int >> 80 == now_ms


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_uuid7_sorts_by_time(now_ms: int, first: bytes, second: bytes) -> None:
    assert uuid7(now_ms, first) < uuid7(now_ms + 1, second)


def test_uuid7_wants_ten_random_bytes() -> None:
    with pytest.raises(ValueError, match="10 bytes, got 3"):
        uuid7(0, b"abc")
    assert isinstance(uuid7(0, bytes(10)), UUID)
