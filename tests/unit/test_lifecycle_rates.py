"""Rates: who is held to which bucket, and what holds while Redis is away."""

from typing import Any

import pytest

from ferryman.auth.principal import Principal, Role
from ferryman.core.queues import PerTenant
from ferryman.lifecycle.dispatching import DispatcherLink
from ferryman.lifecycle.failures import RateLimitedError, TooManyAtOnceError
from ferryman.lifecycle.queue_directory import QueueDirectory
from ferryman.lifecycle.rates import LocalBuckets, Rates, Toll
from ferryman.ports import UnknownQueueError
from ferryman.telemetry.metrics import Metrics
from tests.support.fakes import FakeDispatcher, FakeLedger, HandClock, asker, record


def bearer(user: int | None = 7, tenant: str | None = "acme", subject: str = "7") -> Principal:
    return Principal(subject=subject, tenant_id=tenant, user_id=user, roles=frozenset({Role.USER}))


class Gate:
    """Rates on fakes."""

    def __init__(self, **per_tenant: Any) -> None:
        self.clock = HandClock()
        self.dispatcher = FakeDispatcher()
        limited = record(per_tenant=PerTenant(**per_tenant))
        ledger = FakeLedger(records={"default": limited, "free": record("free")})
        self.rates = Rates(
            DispatcherLink(self.dispatcher.as_port(), Metrics(), self.clock),
            QueueDirectory(ledger.as_port(), self.clock),
            self.clock,
            calls_per_second=2,
            call_burst=3,
        )

    @property
    def buckets(self) -> list[str]:
        return [toll.bucket for tolls in self.dispatcher.tolls for toll in tolls]


async def test_without_limits_nobody_is_asked() -> None:
    gate = Gate()
    gate.rates._per_second = 0
    assert await gate.rates.call(bearer()) is None
    await gate.rates.failed_login("192.0.2.1")
    assert await gate.rates.submission(asker(), {"default": 1_000}) is None
    assert gate.dispatcher.tolls == []


async def test_buckets_are_named_by_what_was_verified_and_never_meet() -> None:
    gate = Gate()
    for principal in (
        bearer(),
        bearer(user=8),
        bearer(tenant="8:acme"),
        bearer(user=None, tenant=None, subject="7:acme"),
    ):
        await gate.rates.call(principal)
    await gate.rates.failed_login("7:acme")
    assert len(set(gate.buckets)) == 5


async def test_a_submission_pays_once_for_all_its_limited_queues() -> None:
    gate = Gate(submit_per_second=5, submit_burst=10)
    taken = await gate.rates.submission(asker(), {"default": 7, "free": 100})
    assert taken is not None
    assert taken.limit == 10
    ((toll,),) = gate.dispatcher.tolls
    assert (toll.bucket, toll.cost, toll.per_second, toll.burst) == ("submit:default:acme", 7, 5, 10)


async def test_more_than_the_burst_is_refused_for_good() -> None:
    gate = Gate(submit_per_second=5, submit_burst=10)
    with pytest.raises(TooManyAtOnceError, match="11 jobs at once are more than the 10"):
        await gate.rates.submission(asker(), {"default": 11})
    assert gate.dispatcher.tolls == []
    with pytest.raises(UnknownQueueError):
        await gate.rates.submission(asker(), {"nowhere": 1})


async def test_while_redis_is_away_this_process_keeps_the_same_rates() -> None:
    gate = Gate()
    gate.dispatcher.away = True
    for _ in range(3):
        assert await gate.rates.call(bearer()) is not None
    assert await gate.rates.call(bearer(user=8)) is not None
    with pytest.raises(RateLimitedError) as caught:
        await gate.rates.call(bearer())
    assert (caught.value.standing.remaining, caught.value.standing.retry_after_ms) == (0, 500)
    gate.clock.seconds += 0.5
    assert await gate.rates.call(bearer()) is not None


def test_a_process_remembers_a_bounded_number_of_buckets() -> None:
    local = LocalBuckets()
    for number in range(10_050):
        local.take([Toll(bucket=str(number), cost=1, per_second=1, burst=1)], 0)
    assert len(local._full_at) == 10_000
    assert not local.take([Toll(bucket="10049", cost=1, per_second=1, burst=1)], 0)[0].allowed
