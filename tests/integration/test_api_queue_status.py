"""Every field of a queue's status against a count by hand, from Redis and from the ledger alone."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Beat
from ferryman.core.verdict import Complete, DeadLetter, RetryAt, Verdict
from ferryman.dispatch.dispatcher import open_dispatcher
from tests.support.api import SERVICE, Api, on_fresh_stores, running, token, warm
from tests.support.ledgers import claim, settlement
from tests.support.servers import Database
from tests.support.stack import free_port

PATH = "/api/jobs/queue/status?queue=mixed"
FAILURE = Failure(error_class=ErrorClass.TRANSIENT, message="no", details={}, fingerprint="0" * 16)
GLOBEX = token(tenant="globex")


@pytest.fixture
async def api(ledger_database: Database, redis_url: str) -> AsyncIterator[Api]:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        yield api


async def ended(api: Api, verdict: Verdict | None, run_ms: int) -> None:
    """A job of acme that was claimed and, unless it still runs, ended so."""
    job_id = UUID(await api.submitted(queue="mixed"))
    (claimed,) = await claim(api.ledger.attempts, job_id, queue="mixed")  # type: ignore[arg-type]
    if verdict is not None:
        await api.ledger.attempts.settle("w1", [settlement(claimed, verdict, run_ms=run_ms)])


async def fill(api: Api) -> None:
    """acme: 2 pending, 3 scheduled, 1 retrying, 1 running, 1 dead letter, 2 completed; globex: 1 pending."""
    await api.call("PUT", "/api/queues/mixed", {"maxSize": 4, "maxBacklog": 90}, bearer=SERVICE)
    await ended(api, Complete(b"{}"), 30)
    await ended(api, Complete(b"{}"), 12)
    await ended(api, DeadLetter(FAILURE), 5)
    await ended(api, RetryAt(40_000, FAILURE), 3)
    await ended(api, None, 0)
    for delay_ms in (20_000, 200_000, 3_000_000):
        await api.submitted(queue="mixed", delayMs=delay_ms)
    await api.submitted(queue="mixed")
    await api.submitted(queue="mixed", priority=9)
    await api.submitted(queue="mixed", bearer=GLOBEX)
    beat = Beat(
        worker_id="w1", pod="p", queues=["mixed"], types=["chat"], slots=8, busy=3, state="running", held=[]
    )
    await api.ledger.attempts.beat(beat)
    await warm(api.ledger, api.dispatcher)


async def status(api: Api, bearer: str) -> dict[str, Any]:
    """The status without what is not the same twice, which is checked here."""
    shown: dict[str, Any] = (await api.call("GET", PATH, bearer=bearer)).json
    assert 0 <= shown.pop("oldestPendingAgeMs") < 60_000
    assert 0 <= shown.pop("runningElapsedMs") < 60_000
    return shown


def expected(source: str, **changed: Any) -> dict[str, Any]:
    """acme's share, but for what is changed."""
    return {
        "queue": "mixed",
        "paused": False,
        "size": 4,
        "backlog": 2,
        "pending": 2,
        "scheduled": 3,
        "retrying": 1,
        "running": 1,
        "deadLetters": 1,
        "dueWithinMs": {
            "1000": 0, "5000": 0, "15000": 0, "30000": 1, "60000": 2, "300000": 3, "900000": 3, "3600000": 4
        },
        "maxSize": 4,
        "maxBacklog": 90,
        "visibilityTimeoutMs": 30_000,
        "deadLetterQueue": "mixed_dlq",
        "workers": {"count": 1, "slots": 8, "busy": 1},
        "totals": {"arrivals": 10, "completions": 2, "failures": 2, "serviceMs": 50},
        "asleep": False,
        "source": source,
    } | changed  # fmt: skip


WHOLE = {
    "pending": 3,
    "backlog": 3,
    "workers": {"count": 1, "slots": 8, "busy": 3},
    "totals": {"arrivals": 11, "completions": 2, "failures": 2, "serviceMs": 50},
}


async def test_every_field_with_redis_and_without(api: Api) -> None:
    await fill(api)
    assert await status(api, token()) == expected("redis")
    assert await status(api, SERVICE) == expected("redis", **WHOLE)
    away = open_dispatcher(f"redis://127.0.0.1:{free_port()}/0")
    try:
        async with running(api.ledger, away) as alone:
            assert await status(alone, token()) == expected("ledger")
            assert await status(alone, SERVICE) == expected("ledger", **WHOLE)
    finally:
        await away.close()


async def test_a_tenant_sees_its_own_share(api: Api) -> None:
    await fill(api)
    share = await status(api, GLOBEX)
    names = ("pending", "scheduled", "retrying", "running", "deadLetters", "size", "backlog")
    assert [share[name] for name in names] == [1, 0, 0, 0, 0, 1, 0]
    assert set(share["dueWithinMs"].values()) == {0}
    assert share["totals"] == {"arrivals": 1, "completions": 0, "failures": 0, "serviceMs": 0}
    assert share["workers"] == {"count": 1, "slots": 8, "busy": 0}
