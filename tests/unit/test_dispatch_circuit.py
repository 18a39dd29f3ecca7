"""While Redis is away, calls fail at once, and one at a time tries again."""

from __future__ import annotations

import pytest

from ferryman.dispatch.circuit import PAUSE_S, Circuit
from ferryman.dispatch.failures import RedisAwayError, RedisRefusedError


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(circuit: Circuit, error: Exception) -> None:
    with pytest.raises(type(error)), circuit.attempt():
        raise error


def test_a_closed_circuit_lets_calls_through() -> None:
    circuit = Circuit(Time())
    with circuit.attempt(), circuit.attempt():
        circuit.check()


def test_after_a_failure_calls_are_refused_for_a_while() -> None:
    time = Time()
    circuit = Circuit(time)
    fail(circuit, RedisAwayError("away"))
    time.now += PAUSE_S * 0.9
    with pytest.raises(RedisAwayError):
        circuit.check()
    with pytest.raises(RedisAwayError), circuit.attempt():
        pytest.fail("this call had no chance")


def test_one_call_tries_again_and_the_others_wait_for_its_end() -> None:
    time = Time()
    circuit = Circuit(time)
    fail(circuit, RedisAwayError("away"))
    time.now += PAUSE_S
    with circuit.attempt(), pytest.raises(RedisAwayError):
        circuit.check()
    circuit.check()


def test_a_failed_try_opens_it_again() -> None:
    time = Time()
    circuit = Circuit(time)
    fail(circuit, RedisAwayError("away"))
    time.now += PAUSE_S
    fail(circuit, RedisAwayError("still away"))
    with pytest.raises(RedisAwayError):
        circuit.check()
    time.now += PAUSE_S
    circuit.check()


def test_a_try_that_is_given_up_leaves_the_next_one_free() -> None:
    time = Time()
    circuit = Circuit(time)
    fail(circuit, RedisAwayError("away"))
    time.now += PAUSE_S
    with pytest.raises(KeyboardInterrupt), circuit.attempt():
        raise KeyboardInterrupt
    circuit.check()


def test_an_error_about_one_call_opens_nothing() -> None:
    circuit = Circuit(Time())
    fail(circuit, RedisRefusedError("WRONGTYPE"))
    circuit.check()
