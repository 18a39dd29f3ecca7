import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.failures import ErrorClass
from ferryman.core.queues import (
    BUILT_IN,
    HandlerSettings,
    QueueSettings,
    RetrySettings,
    TypeRetrySettings,
    TypeSettings,
    decode,
    encode,
    is_queue_name,
    retry_policy,
    timeout_ms,
)
from ferryman.core.retry import RetryPolicy

DICE = st.floats(0, 1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 100),
    initial_delay_ms=st.integers(0, 86_400_000),
    multiplier=st.floats(1, 100),
    max_delay_ms=st.integers(0, 86_400_000),
    jitter=st.booleans(),
)


def test_the_default_delays_are_those_of_the_contract() -> None:
    policy = RetryPolicy(jitter=False, max_retries=7)
    delays = [policy.delay_ms(n, ErrorClass.TRANSIENT, 0) for n in range(1, 8)]
    assert delays == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]


def test_timeout_doubles_once_more_and_system_waits_up_to_five_times_longer() -> None:
    policy = RetryPolicy(jitter=False)
    assert policy.delay_ms(1, ErrorClass.TIMEOUT, 0) == 2_000
    assert policy.delay_ms(20, ErrorClass.TIMEOUT, 0) == 60_000
    assert policy.delay_ms(20, ErrorClass.SYSTEM, 0) == 300_000


@given(POLICIES, st.integers(1, 10_000), st.sampled_from(ErrorClass), DICE)
def test_a_delay_stays_within_its_bounds_for_any_retry_however_late(
    policy: RetryPolicy, retry: int, error_class: ErrorClass, dice: float
) -> None:
    longest = policy.max_delay_ms * (5 if error_class is ErrorClass.SYSTEM else 1)
    assert 0 <= policy.delay_ms(retry, error_class, dice) <= longest


@given(POLICIES, st.integers(1, 200), DICE)
def test_jitter_takes_half_to_all_of_the_exact_delay(policy: RetryPolicy, retry: int, dice: float) -> None:
    exact = RetryPolicy(
        initial_delay_ms=policy.initial_delay_ms,
        multiplier=policy.multiplier,
        max_delay_ms=policy.max_delay_ms,
        jitter=False,
    ).delay_ms(retry, ErrorClass.TRANSIENT, dice)
    taken = policy.delay_ms(retry, ErrorClass.TRANSIENT, dice)
    assert exact / 2 - 1 <= taken <= exact
    assert policy.jitter or taken == exact


@given(POLICIES, st.integers(1, 100))
def test_delays_never_shrink_without_jitter(policy: RetryPolicy, retry: int) -> None:
    if not policy.jitter:
        first, second = (policy.delay_ms(n, ErrorClass.TRANSIENT, 0) for n in (retry, retry + 1))
        assert first <= second


@pytest.mark.parametrize(
    ("error_class", "allowed"),
    [("TRANSIENT", 3), ("TIMEOUT", 3), ("SYSTEM", 6), ("PERMANENT", 0), ("VALIDATION", 0), ("BUSINESS", 0)],
)
def test_the_budget_depends_on_the_class(error_class: str, allowed: int) -> None:
    assert RetryPolicy().allowed(ErrorClass(error_class)) == allowed


@pytest.mark.parametrize(
    ("job_type", "retries", "delay_ms"),
    [("chat", 5, 2_000), ("memory", 3, 500), ("notification", 10, 30_000), ("report", 3, 1_000)],
)
def test_types_start_from_their_seeds(job_type: str, retries: int, delay_ms: int) -> None:
    policy = retry_policy(QueueSettings(), job_type)
    assert (policy.max_retries, policy.initial_delay_ms) == (retries, delay_ms)


def test_the_strongest_word_wins() -> None:
    queue = QueueSettings(
        retry=RetrySettings(max_retries=1, multiplier="3.0"),
        types={"chat": TypeSettings(retry=TypeRetrySettings(max_retries=2, jitter=False))},
        timeout_ms=1_000,
    )
    handler = HandlerSettings(max_retries=7, retry_delay_ms=9, timeout_ms=2_000)
    assert retry_policy(queue, "chat", max_retries=0).max_retries == 0
    assert retry_policy(queue, "chat", handler=handler).max_retries == 2
    assert retry_policy(queue, "memory", handler=handler).max_retries == 7
    assert retry_policy(queue, "memory").max_retries == 3
    assert retry_policy(queue, "other").max_retries == 1
    assert retry_policy(queue, "chat").multiplier == 3.0
    assert retry_policy(queue, "chat").jitter is False
    assert timeout_ms(queue, "chat", given=5) == 5
    assert timeout_ms(queue, "chat", given=None, handler=handler) == 2_000
    assert timeout_ms(queue, "chat", given=None) == 1_000


def test_the_three_queues_are_those_of_the_contract() -> None:
    table = {
        name: (q.max_size, q.max_backlog, q.visibility_timeout_ms, q.dead_letter_queue)
        for name, q in BUILT_IN.items()
    }
    assert table == {
        "default": (1_000, 5_000, 30_000, "default_dlq"),
        "high_priority": (100, 500, 10_000, "high_priority_dlq"),
        "background": (5_000, 10_000, 60_000, "background_dlq"),
    }


def test_settings_survive_their_document() -> None:
    settings = QueueSettings(types={"a": TypeSettings(timeout_ms=5)}, retry=RetrySettings(multiplier="1.5"))
    assert decode(encode(settings)) == settings


@pytest.mark.parametrize("name", ["a", "0", "high_priority", "a.b-c", "a" * 63])
def test_good_queue_names(name: str) -> None:
    assert is_queue_name(name)


@pytest.mark.parametrize("name", ["", "A", "_a", "-a", "a" * 64, "a b", "a\n", "{a}", "ä"])
def test_bad_queue_names(name: str) -> None:
    assert not is_queue_name(name)
