"""Why a job is not running, out of what is known of it. Pure: facts in, reasons and an estimate out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from ferryman.core.job import Job
from ferryman.core.queues import PerTenant, tenant_limits
from ferryman.core.status import JobStatus
from ferryman.ports import Crew, Place, QueueRecord

Code = Literal[
    "paused",
    "not_due",
    "retry_backoff",
    "rate_limited",
    "concurrency_limited",
    "fair_share",
    "no_worker_for_type",
    "no_capacity",
    "position",
]
# The next minute may go twice as fast as the last one, or half as fast.
_SPREAD: Final = 2.0
_LONGEST_S: Final = 10 * 366 * 86_400.0


class Reason(Struct, frozen=True):
    """One reason, in words and in numbers: `details` are spelt as REST shows them."""

    code: Code
    message: str
    details: Mapping[str, object]


class Estimate(Struct, frozen=True):
    """When the job may start, if things go on as they went."""

    earliest: datetime
    latest: datetime


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of a waiting job. `place` None: Redis cannot say. `per_second`: jobs of its tenant that
    the queue's handlers ended lately. `sees_all`: who asks may know what all tenants have in the queue.
    """

    job: Job
    queue: QueueRecord
    crew: Crew
    place: Place | None
    per_second: float
    sees_all: bool

    @property
    def limits(self) -> PerTenant:
        """What the queue allows the job's tenant."""
        return tenant_limits(self.queue.settings, self.job.tenant_id)

    @property
    def due_in_ms(self) -> int:
        """Milliseconds until it is due."""
        return max(0, round((self.job.run_at - self.crew.now) / timedelta(milliseconds=1)))


def reasons(facts: Facts) -> list[Reason]:
    """Every reason that holds, in the order of contract, section 3: the first to be removed first."""
    found = [*_paused(facts), *_early(facts)]
    if facts.job.status is JobStatus.PENDING and facts.place is not None:
        found += [*_rate(facts, facts.place), *_caps(facts, facts.place), *_share(facts, facts.place)]
    found += [*_unknown_type(facts), *_capacity(facts)]
    if facts.job.status is JobStatus.PENDING:
        found.append(_position(facts))
    return found


def _paused(facts: Facts) -> Iterator[Reason]:
    if facts.queue.paused:
        name = facts.queue.name
        yield Reason(
            "paused",
            f"The queue {name} is paused; nothing of it starts until it is resumed.",
            {"queue": name},
        )


def _early(facts: Facts) -> Iterator[Reason]:
    job, due_in_ms = facts.job, facts.due_in_ms
    if job.status is JobStatus.SCHEDULED:
        yield Reason(
            "not_due", f"It is due in {_span(due_in_ms)}.", {"runAt": job.run_at, "dueInMs": due_in_ms}
        )
    elif job.status is JobStatus.RETRYING:
        yield Reason(
            "retry_backoff",
            f"Attempt {job.attempt} is over; the next one may start in {_span(due_in_ms)}. "
            f"{job.retry_count} of {job.max_retries} retries are used up.",
            {
                "nextRetryAt": job.run_at,
                "dueInMs": due_in_ms,
                "attempt": job.attempt,
                "retryCount": job.retry_count,
                "maxRetries": job.max_retries,
                "errorClass": job.error_class,
            },
        )


def _rate(facts: Facts, place: Place) -> Iterator[Reason]:
    limits = facts.limits
    if place.next_start_in_ms is not None and limits.rate_per_second:
        yield Reason(
            "rate_limited",
            f"Its tenant has started what it may for now: {limits.rate_per_second:g} jobs a second, "
            f"{max(1, limits.burst)} at once. The next one may start in {_span(place.next_start_in_ms)}.",
            {
                "ratePerSecond": limits.rate_per_second,
                "burst": max(1, limits.burst),
                "nextStartInMs": place.next_start_in_ms,
            },
        )


def _caps(facts: Facts, place: Place) -> Iterator[Reason]:
    own, of_all = facts.limits.max_concurrency, facts.queue.settings.max_concurrency
    if own and place.running >= own:
        yield Reason(
            "concurrency_limited",
            f"Its tenant runs {place.running} jobs of this queue, and may run {own} at once.",
            {"limit": "tenant", "maxConcurrency": own, "running": place.running},
        )
    if of_all and place.running_of_all >= of_all:
        yield Reason(
            "concurrency_limited",
            f"The queue runs as many jobs as it may at once: {of_all}.",
            {"limit": "queue", "maxConcurrency": of_all},
        )


def _share(facts: Facts, place: Place) -> Iterator[Reason]:
    """A tenant learns that others have their turn, not who or how many."""
    if not place.tenants_ahead:
        return
    details: dict[str, object] = {"weight": facts.limits.weight}
    if facts.sees_all:
        details |= {"tenantsAhead": place.tenants_ahead, "tenants": place.tenants}
    yield Reason(
        "fair_share",
        "Other work has its turn first, so that everybody gets a fair share of the workers.",
        details,
    )


def _unknown_type(facts: Facts) -> Iterator[Reason]:
    crew, job = facts.crew, facts.job
    if crew.knowing:
        return
    known = ", ".join(crew.types) or "none"
    yield Reason(
        "no_worker_for_type",
        f"No live worker of the queue {job.queue} knows the type {job.type}."
        + (f" They know: {known}." if crew.workers else " It has no live worker."),
        {"type": job.type, "workers": crew.workers, "knownTypes": crew.types},
    )


def _capacity(facts: Facts) -> Iterator[Reason]:
    crew = facts.crew
    if facts.job.status is not JobStatus.PENDING or crew.free or (crew.workers and not crew.knowing):
        return
    if not crew.workers:
        message = f"The queue {facts.queue.name} has no live worker, so no slot."
    elif not crew.claiming:
        message = "Every worker that knows its type is draining or stopping, and takes nothing more."
    else:
        message = "Every slot of the workers that know its type is taken."
    yield Reason("no_capacity", message, {"workers": crew.workers, "slots": crew.slots})


def _position(facts: Facts) -> Reason:
    place = facts.place
    if place is None:
        return Reason(
            "position",
            "Redis is away or not filled yet; meanwhile workers take ready jobs from the ledger by priority "
            "and age, and its place among them is not known.",
            {"ahead": None},
        )
    details: dict[str, object] = {"ahead": place.ahead, "where": place.where}
    if facts.sees_all:
        details |= {"tenantsAhead": place.tenants_ahead, "tenants": place.tenants}
    return Reason("position", _standing(facts, place), details)


def _standing(facts: Facts, place: Place) -> str:
    match place.where:
        case "ready" if place.ahead:
            return f"{_jobs(place.ahead)} of its tenant go before it."
        case "ready":
            return "It is the next job of its tenant."
        case "due":
            return "It falls due just now."
        case "put_off":
            return f"A claim of it was refused; it comes again in {_span(place.comes_in_ms or 0)}."
        case "aside":
            return (
                f"It waits for a worker that knows the type {facts.job.type}, and then takes its old place."
            )
        case "claimed":
            return "A worker is taking it just now."
        case "nowhere":
            return "Redis does not hold it yet; a sweep finds it within seconds."


def estimate(facts: Facts) -> Estimate | None:
    """From what the queue did for this tenant lately, half as fast and twice as fast; None where nothing was
    measured, or where something must change first.
    """
    job, place = facts.job, facts.place
    if facts.queue.paused or not facts.crew.claiming or place is None or not facts.per_second:
        return None
    if job.status is JobStatus.PENDING and place.ahead is None:
        return None
    limit = facts.limits.rate_per_second or float("inf")
    slow = min(facts.per_second, limit) / _SPREAD
    fast = min(facts.per_second * _SPREAD, limit)
    # What is ready now may all go before a job that is not due yet, or be gone by then.
    least, most = (0, place.ready) if place.ahead is None else (place.ahead, place.ahead)
    wait_s = (place.next_start_in_ms or 0) / 1_000
    start = max(job.run_at, facts.crew.now)
    return Estimate(
        earliest=start + timedelta(seconds=max(least / fast, wait_s if place.ahead is not None else 0)),
        latest=start + timedelta(seconds=min((most + 1) / slow + wait_s, _LONGEST_S)),
    )


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


def _span(ms: int) -> str:
    """A length of time for people, in its largest unit."""
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if ms >= length:
            return f"{ms / length:.1f} {unit}".replace(".0 ", " ")
    return f"{ms} ms"
