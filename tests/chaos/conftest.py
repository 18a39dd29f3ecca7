"""How long and by which seed the chaos test breaks things."""

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seconds", type=float, default=120, help="how long faults go on (default: 120)")
    group.addoption("--chaos-seed", type=int, default=None, help="repeat the faults of an earlier run")


@pytest.fixture
def chaos_seconds(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--chaos-seconds"))


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    seed = request.config.getoption("--chaos-seed")
    return random.SystemRandom().randrange(2**32) if seed is None else int(seed)
