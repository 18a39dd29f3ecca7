"""What workers would do, done straight to the ledger: jobs that end, and workers that were heard of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Beat, Settlement
from ferryman.core.verdict import Complete, DeadLetter, Verdict
from tests.support.api import Api

WORKER = "worker-of-a-test"


async def end(api: Api, job_id: str, verdict: Verdict) -> bool:
    """Claim a pending job of type chat and end it; whether it was there to be claimed."""
    claim = (UUID(job_id), uuid4())
    (position,) = await api.ledger.jobs.positions([claim[0]])
    for claimed in await api.ledger.attempts.claim(WORKER, [claim], queue=position.queue, types=["chat"]):
        settlement = Settlement(
            id=claimed.id,
            token=claim[1],
            attempt=claimed.attempt,
            verdict=verdict,
            run_ms=1,
            wait_ms=1,
            max_retries=3,
        )
        await api.ledger.attempts.settle(WORKER, [settlement])
        return True
    return False


def complete(output: bytes = b"{}") -> Verdict:
    """It went well."""
    return Complete(output)


def fail_for_good(message: str, details: Mapping[str, Any] | None = None) -> Verdict:
    """It failed, and more tries would not help."""
    return DeadLetter(
        Failure(
            error_class=ErrorClass.PERMANENT,
            message=message,
            details=dict(details or {}),
            fingerprint=uuid4().hex[:16],
        )
    )


async def bury(api: Api, count: int, *, bearer: str | None = None) -> list[str]:
    """So many dead letters of a tenant; their ids."""
    made = await api.call("POST", "/api/jobs/bulk", {"jobs": [{"type": "chat"}] * count}, bearer=bearer)
    for job in made.json["jobs"]:
        assert await end(api, job["jobId"], fail_for_good("no"))
    letters = (await api.call("GET", f"/api/dead-letters?limit={min(count, 200)}", bearer=bearer)).json
    return [letter["deadLetterId"] for letter in letters["deadLetters"]]


async def introduce(api: Api, count: int) -> list[str]:
    """So many workers that were heard of once; their ids."""
    ids = [f"{WORKER}-{number}" for number in range(count)]
    for worker_id in ids:
        beat = Beat(
            worker_id=worker_id,
            pod=worker_id,
            queues=["default"],
            types=["chat"],
            slots=2,
            busy=0,
            state="running",
            held=[],
        )
        await api.ledger.attempts.beat(beat)
    return ids
