"""Facts of a waiting job in, reasons and an estimate out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from ferryman.core.queues import PerTenant, QueueSettings, TenantSettings
from ferryman.core.status import JobStatus
from ferryman.lifecycle.reasons import Facts, estimate, reasons
from ferryman.ports import Crew, Place, QueueRecord
from tests.support.api_shapes import AT, job

LATER = AT + timedelta(minutes=2)


def crew(**fields: Any) -> Crew:
    """Two workers that know the type, with free slots."""
    defaults: dict[str, Any] = {
        "now": AT, "workers": 2, "slots": 20, "knowing": 2, "claiming": 2, "free": 5, "types": ["chat"]
    }  # fmt: skip
    return Crew(**(defaults | fields))


def place(**fields: Any) -> Place:
    """Ready, and next of all."""
    defaults: dict[str, Any] = {
        "where": "ready", "ahead": 0, "comes_in_ms": None, "ready": 1, "running": 0, "running_of_all": 0,
        "tenants_ahead": 0, "tenants": 1, "next_start_in_ms": None,
    }  # fmt: skip
    return Place(**(defaults | fields))


def facts(
    status: JobStatus = JobStatus.PENDING, *, settings: QueueSettings | None = None, **fields: Any
) -> Facts:
    """A job that nothing holds back."""
    run_at = AT if status is JobStatus.PENDING else LATER
    defaults: dict[str, Any] = {
        "job": job(status=status, run_at=run_at, attempt=int(status is JobStatus.RETRYING)),
        "queue": QueueRecord(name="default", settings=settings or QueueSettings(), paused=False, version=1),
        "crew": crew(),
        "place": place(),
        "per_second": 0.0,
        "sees_all": False,
    }
    return Facts(**(defaults | fields))


PAUSED = QueueRecord(name="default", settings=QueueSettings(), paused=True, version=2)
RATED = QueueSettings(tenants={"acme": TenantSettings(rate_per_second=0.5)})
CAPPED = QueueSettings(per_tenant=PerTenant(max_concurrency=3), max_concurrency=8)
NOBODY = {"workers": 0, "slots": 0, "knowing": 0, "claiming": 0, "free": 0, "types": []}
STRANGERS = crew(knowing=0, claiming=0, free=0, types=["pdf", "sms"])


@pytest.mark.parametrize(
    ("known", "codes", "words"),
    [
        (facts(), ["position"], "the next job of its tenant"),
        (facts(queue=PAUSED), ["paused", "position"], "queue default is paused"),
        (facts(JobStatus.SCHEDULED), ["not_due"], "due in 2 min"),
        (facts(JobStatus.RETRYING), ["retry_backoff"], "Attempt 1 is over"),
        (
            facts(settings=RATED, place=place(next_start_in_ms=1_500, tenants_ahead=None)),
            ["rate_limited", "position"],
            "0.5 jobs a second, 1 at once. The next one may start in 1.5 s.",
        ),
        (
            facts(settings=CAPPED, place=place(running=3, tenants_ahead=None)),
            ["concurrency_limited", "position"],
            "Its tenant runs 3 jobs of this queue, and may run 3 at once.",
        ),
        (
            facts(settings=CAPPED, place=place(running_of_all=8)),
            ["concurrency_limited", "position"],
            "The queue runs as many jobs as it may at once: 8.",
        ),
        (facts(place=place(tenants_ahead=2, tenants=4)), ["fair_share", "position"], "Other work"),
        (facts(crew=STRANGERS), ["no_worker_for_type", "position"], "They know: pdf, sms."),
        (
            facts(crew=crew(**NOBODY)),
            ["no_worker_for_type", "no_capacity", "position"],
            "It has no live worker.",
        ),
        (facts(crew=crew(free=0)), ["no_capacity", "position"], "Every slot"),
        (facts(crew=crew(free=0, claiming=0)), ["no_capacity", "position"], "draining"),
        (facts(place=place(ahead=1)), ["position"], "1 job of its tenant go"),
        (facts(place=place(ahead=1_200)), ["position"], "1,200 jobs of its tenant go"),
        (facts(place=place(where="aside", ahead=None)), ["position"], "knows the type chat"),
        (facts(place=place(where="put_off", ahead=None, comes_in_ms=900)), ["position"], "in 900 ms"),
        (facts(place=place(where="nowhere", ahead=None)), ["position"], "a sweep finds it"),
        (facts(place=place(where="claimed", ahead=None)), ["position"], "taking it just now"),
        (facts(place=place(where="due", ahead=None)), ["position"], "due just now"),
        (facts(place=None), ["position"], "Redis is away"),
        (facts(JobStatus.SCHEDULED, crew=STRANGERS), ["not_due", "no_worker_for_type"], "due in"),
    ],
)
def test_each_reason_is_named_and_put_in_words(known: Facts, codes: list[str], words: str) -> None:
    found = reasons(known)
    assert [reason.code for reason in found] == codes
    assert any(words in reason.message for reason in found)


def test_reasons_come_in_the_order_of_the_contract() -> None:
    known = facts(
        queue=QueueRecord(name="default", settings=CAPPED, paused=True, version=1),
        crew=crew(free=0),
        place=place(running=3, running_of_all=9, tenants_ahead=1, ahead=7),
    )
    assert [reason.code for reason in reasons(known)] == [
        "paused",
        "concurrency_limited",
        "concurrency_limited",
        "fair_share",
        "no_capacity",
        "position",
    ]


def test_a_tenant_learns_no_number_of_others() -> None:
    mine, whole = (
        [
            reason.details
            for reason in reasons(facts(place=place(tenants_ahead=77, tenants=78), sees_all=sees_all))
        ]
        for sees_all in (False, True)
    )
    assert "77" not in str(mine)
    assert "78" not in str(mine)
    assert [details["tenantsAhead"] for details in whole] == [77, 77]


@pytest.mark.parametrize(
    ("known", "earliest_s", "latest_s"),
    [
        (facts(per_second=2.0, place=place(ahead=8)), 2.0, 9.0),
        (facts(per_second=2.0, place=place(ahead=0)), 0.0, 1.0),
        (facts(JobStatus.SCHEDULED, per_second=2.0, place=place(where="due", ahead=None, ready=3)), 120, 124),
        (
            facts(per_second=2.0, settings=RATED, place=place(ahead=4, next_start_in_ms=1_500)),
            8.0,
            21.5,
        ),
    ],
)
def test_an_estimate_is_a_range_around_what_was_measured(
    known: Facts, earliest_s: float, latest_s: float
) -> None:
    range_ = estimate(known)
    assert range_ is not None
    assert range_.earliest == AT + timedelta(seconds=earliest_s)
    assert range_.latest == AT + timedelta(seconds=latest_s)


@pytest.mark.parametrize(
    "known",
    [
        facts(),
        facts(per_second=2.0, queue=PAUSED),
        facts(per_second=2.0, crew=STRANGERS),
        facts(per_second=2.0, place=None),
        facts(per_second=2.0, place=place(where="aside", ahead=None)),
    ],
)
def test_nothing_is_estimated_where_nothing_was_measured_or_something_must_change(known: Facts) -> None:
    assert estimate(known) is None
