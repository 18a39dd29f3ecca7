"""Rates: never more than rate times time and one burst, and never less than what is due."""

from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.rates import Toll, take

RATES = st.sampled_from([0.5, 1.0, 3.0, 7.5, 200.0, 1_000.0])


def toll(bucket: str = "b", *, cost: int = 1, per_second: float = 1, burst: int = 5) -> Toll:
    return Toll(bucket=bucket, cost=cost, per_second=per_second, burst=burst)


@given(
    RATES,
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 60)), max_size=60),
)
def test_no_window_grants_more_than_its_rate_and_one_burst(
    per_second: float, burst: int, calls: list[tuple[int, int]]
) -> None:
    now, full_at = 1_700_000_000_000_000, None
    granted: list[tuple[int, int]] = []
    for pause_us, cost in calls:
        now += pause_us
        (taken,), after = take([toll(cost=cost, per_second=per_second, burst=burst)], [full_at], now)
        assert taken.allowed == (after is not None)
        if after is not None:
            (full_at,) = after
            granted.append((now, cost))
        elif taken.retry_after_ms is None:
            assert cost > burst
        else:
            later = now + taken.retry_after_ms * 1_000
            assert take([toll(cost=cost, per_second=per_second, burst=burst)], [full_at], later)[1]
    for first, (start, _) in enumerate(granted):
        total = 0
        for at, cost in granted[first:]:
            total += cost
            assert total <= per_second * (at - start) / 1_000_000 + burst


def test_an_untouched_bucket_is_full() -> None:
    (taken,), after = take([toll(burst=5)], [None], 0)
    assert (taken.allowed, taken.limit, taken.remaining, taken.reset_ms) == (True, 5, 4, 1_000)
    assert after == [1_000_000]


def test_a_spent_bucket_says_when_to_come_again() -> None:
    (taken,), after = take([toll(cost=2, burst=2)], [1_500_000], 0)
    assert (taken.allowed, taken.remaining, taken.retry_after_ms, after) == (False, 0, 1_500, None)


def test_more_than_the_burst_is_never_there() -> None:
    (taken,), after = take([toll(cost=6, burst=5)], [None], 0)
    assert (taken.allowed, taken.remaining, taken.retry_after_ms, after) == (False, 5, None, None)


def test_all_buckets_or_none() -> None:
    standings, after = take([toll("a"), toll("b", burst=1)], [None, 1_000_000], 0)
    assert [standing.allowed for standing in standings] == [True, False]
    assert standings[0].remaining == 5
    assert after is None


def test_a_clock_that_went_back_and_a_limit_that_was_raised_lock_nobody_out() -> None:
    far = 10**15
    (taken,), after = take([toll(burst=5)], [far], 0)
    assert (taken.allowed, taken.retry_after_ms, after) == (False, 1_000, None)
