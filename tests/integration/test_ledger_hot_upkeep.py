"""Upkeep: leases end only when the ledger agrees, by the core's rule, and what waits can be read back."""

import json
from itertools import product
from typing import Any
from uuid import UUID, uuid4

import pytest

from ferryman.core.job import Beat, Claimed, Inserted
from ferryman.core.retry import RetryPolicy
from ferryman.core.status import JobStatus
from ferryman.core.verdict import Cancel, DeadLetter, Lost, Reschedule, crashes_after_loss, decide
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.pool import Pools
from ferryman.ledger.submissions import Submissions
from ferryman.ledger.upkeep import LedgerUpkeep
from tests.support.ledgers import USER, assert_books, claim, new_job, rows, settlement, value
from tests.support.servers import Database

SILENT = "beat_at = now() - interval '1 minute'"
OVERDUE = "lease_until = now() + visibility_timeout_ms * interval '1.9 milliseconds'"
EXPIRED = "lease_until = now() - interval '1 millisecond'"
FOREVER_MS = 10**9


class Scene:
    """The stores over one database, and its owner's view."""

    def __init__(self, pools: Pools, url: str) -> None:
        self.submissions = Submissions(pools)
        self.attempts = Attempts(pools)
        self.upkeep = LedgerUpkeep(pools)
        self.url = url

    async def submit(self, **fields: Any) -> Inserted:
        return await self.submissions.insert(new_job(**fields), USER)

    async def running(self, worker: str = "w1", **fields: Any) -> Claimed:
        job = await self.submit(**fields)
        (claimed,) = await claim(self.attempts, job.id, worker=worker)
        return claimed

    async def row(self, job_id: UUID) -> Any:
        return (await rows(self.url, "SELECT * FROM ferryman.jobs WHERE id = $1", job_id))[0]

    async def change(self, job_id: UUID, assignments: str) -> None:
        await value(self.url, f"UPDATE ferryman.jobs SET {assignments} WHERE id = $1", job_id)

    async def beat(self, worker: str, *held: Claimed) -> None:
        await self.attempts.beat(
            Beat(
                worker_id=worker,
                pod="pod",
                queues=["default"],
                types=["chat"],
                slots=4,
                busy=len(held),
                state="running",
                held=[(one.id, one.token) for one in held],
            )
        )


@pytest.fixture
def scene(pools: Pools, ledger_database: Database) -> Scene:
    return Scene(pools, ledger_database.owner_url)


# ----------------------------------------------------------------------------------------------- rescue


async def test_an_overdue_lease_ends_when_the_ledger_agrees(scene: Scene) -> None:
    claimed = await scene.running()
    before = await scene.row(claimed.id)
    await scene.change(claimed.id, OVERDUE)
    (position,) = await scene.upkeep.reap([(claimed.id, claimed.token)])
    row = await scene.row(claimed.id)
    assert (position.kind, position.retrying, position.due_in_ms) == ("waiting", True, 0)
    assert (row["status"], row["crashes"], row["retry_count"]) == ("pending", 1, 0)
    assert row["ready_since"] == before["ready_since"]  # it takes its old place
    (entry,) = json.loads(row["failed_attempts"])
    assert (entry["outcome"], entry["countsAsRetry"], entry["workerId"]) == ("reaped", False, "w1")
    assert await scene.attempts.settle("w1", [settlement(claimed)]) == []
    await assert_books(scene.url)


async def test_what_the_ledger_knows_better_is_left_alone(scene: Scene) -> None:
    beaten, other_token, done = [await scene.running() for _ in range(3)]
    waiting = await scene.submit(run_in_ms=5_000)
    await scene.change(other_token.id, OVERDUE)
    await scene.attempts.settle("w1", [settlement(done)])
    unknown = uuid4()
    positions = await scene.upkeep.reap(
        [
            (beaten.id, beaten.token),
            (other_token.id, uuid4()),
            (done.id, done.token),
            (waiting.id, uuid4()),
            (unknown, uuid4()),
        ]
    )
    assert [(one.id, one.kind) for one in positions] == [
        (beaten.id, "running"),
        (other_token.id, "running"),
        (done.id, "gone"),
        (waiting.id, "waiting"),
        (unknown, "gone"),
    ]
    assert positions[0].token == beaten.token
    assert 89_000 < positions[0].lease_ms <= 90_000
    assert 4_000 < positions[3].due_in_ms <= 5_000
    await assert_books(scene.url)


@pytest.mark.parametrize(
    ("crashes", "isolated", "cancelled"), list(product((0, 1, 2, 3), (False, True), (False, True)))
)
async def test_the_rescue_follows_the_core(
    scene: Scene, crashes: int, isolated: bool, cancelled: bool
) -> None:
    claimed = await scene.running()
    await scene.change(
        claimed.id, f"crashes = {crashes}, isolated = {isolated}, cancel_requested = {cancelled}, {EXPIRED}"
    )
    verdict = decide(
        Lost(isolated=isolated, crashes=crashes, cancel_requested=cancelled),
        RetryPolicy(),
        failures=0,
        dice=0.0,
    )
    (position,) = await scene.upkeep.reap_expired(steady_ms=FOREVER_MS, limit=10)
    row = await scene.row(claimed.id)
    match verdict:
        case Cancel():
            assert (row["status"], position.kind) == ("cancelled", "gone")
        case DeadLetter(failure=failure):
            assert (row["status"], row["error_class"], position.kind) == ("dead_letter", "SYSTEM", "gone")
            (letter,) = await rows(scene.url, "SELECT reason, error_message FROM ferryman.dead_letter_jobs")
            assert tuple(letter) == ("poison", failure.message)
        case Reschedule(crashes=counted):
            assert (row["status"], row["crashes"], position.kind) == ("pending", counted, "waiting")
        case _:
            raise AssertionError(verdict)
    if not cancelled:
        assert row["crashes"] == crashes_after_loss(crashes, isolated=isolated)
    await assert_books(scene.url)


async def test_a_lease_that_runs_out_waits_until_its_worker_could_have_beaten(scene: Scene) -> None:
    slow = await scene.running(visibility_timeout_ms=60_000)
    quick = await scene.running(visibility_timeout_ms=1_000)
    alive = await scene.running()
    for claimed in (slow, quick):
        await scene.change(claimed.id, EXPIRED)
    assert [one.id for one in await scene.upkeep.reap_expired(steady_ms=30_000, limit=10)] == [quick.id]
    assert [one.id for one in await scene.upkeep.reap_expired(steady_ms=60_000, limit=10)] == [slow.id]
    assert (await scene.row(alive.id))["status"] == "running"


async def test_rescues_are_bounded(scene: Scene) -> None:
    for _ in range(5):
        await scene.change((await scene.running()).id, EXPIRED)
    sizes = [len(await scene.upkeep.reap_expired(steady_ms=FOREVER_MS, limit=2)) for _ in range(4)]
    assert sizes == [2, 2, 1, 0]
    await assert_books(scene.url)


async def test_a_silent_worker_loses_all_its_leases(scene: Scene) -> None:
    lost = [await scene.running("dead"), await scene.running("dead")]
    kept = await scene.running("alive")
    await scene.beat("dead", *lost)
    await scene.beat("alive", kept)
    await value(scene.url, f"UPDATE ferryman.workers SET {SILENT} WHERE id = 'dead'")
    positions = await scene.upkeep.reap_lost_workers(silent_ms=100, limit=10)
    assert {one.id for one in positions} == {one.id for one in lost}
    assert (await scene.row(kept.id))["status"] == "running"
    assert [row["id"] for row in await rows(scene.url, "SELECT id FROM ferryman.workers")] == ["alive"]
    assert await scene.upkeep.reap_lost_workers(silent_ms=60_000, limit=10) == []
    await assert_books(scene.url)


async def test_a_silent_worker_is_remembered_until_its_last_lease_has_ended(scene: Scene) -> None:
    lost = [await scene.running("dead") for _ in range(3)]
    await scene.beat("dead", *lost)
    await value(scene.url, f"UPDATE ferryman.workers SET {SILENT}")
    sizes = [len(await scene.upkeep.reap_lost_workers(silent_ms=100, limit=2)) for _ in range(3)]
    assert sizes == [2, 1, 0]
    assert await rows(scene.url, "SELECT id FROM ferryman.workers") == []


async def test_nobody_is_lost_while_the_server_is_younger_than_the_silence(scene: Scene) -> None:
    claimed = await scene.running("dead")
    await scene.beat("dead", claimed)
    await value(scene.url, "UPDATE ferryman.workers SET beat_at = now() - interval '300 days'")
    assert await scene.upkeep.reap_lost_workers(silent_ms=86_400_000, limit=10) == []


# ----------------------------------------------------------------------------------------------- expiry


async def test_waiting_jobs_past_their_expiry_end(scene: Scene) -> None:
    late = [await scene.submit(expires_in_ms=60_000) for _ in range(3)]
    running = await scene.running(expires_in_ms=60_000)
    fresh = await scene.submit(expires_in_ms=60_000)
    for job_id in (*(one.id for one in late), running.id):
        await scene.change(job_id, "expires_at = now() - interval '1 second'")
    first = await scene.upkeep.expire(limit=2)
    second = await scene.upkeep.expire(limit=2)
    assert {one.id for one in first + second} == {one.id for one in late}
    assert {one.kind for one in first + second} == {"gone"}
    assert (await scene.row(late[0].id))["status"] == "expired"
    assert {(await scene.row(job_id))["status"] for job_id in (running.id, fresh.id)} == {
        "running",
        "pending",
    }
    await assert_books(scene.url)


# --------------------------------------------------------------------------- what the dispatcher should hold


async def test_pages_of_what_is_unfinished(scene: Scene) -> None:
    jobs = [await scene.submit(priority=number) for number in range(5)]
    running = await scene.running()
    done = await scene.running()
    await scene.attempts.settle("w1", [settlement(done)])
    await scene.submit(queue="background")
    pages = []
    after = None
    while page := await scene.upkeep.waiting("default", after=after, limit=4):
        pages.append(page)
        after = page[-1].id
    positions = [one for page in pages for one in page]
    assert [one.id for one in positions] == sorted([*(job.id for job in jobs), running.id])
    assert [len(page) for page in pages] == [4, 2]
    lease = next(one for one in positions if one.id == running.id)
    assert (lease.kind, lease.token) == ("running", running.token)


async def test_what_became_ready_lately(scene: Scene) -> None:
    old, new, important = [await scene.submit(priority=priority) for priority in (0, 0, 9)]
    scheduled = await scene.submit(run_in_ms=60_000)
    await scene.change(old.id, "ready_since = now() - interval '1 hour'")
    await scene.running()
    lately = await scene.upkeep.recently_ready("default", within_ms=60_000, limit=10)
    assert [one.id for one in lately] == [new.id, important.id]
    assert [
        one.id for one in await scene.upkeep.recently_ready("default", within_ms=FOREVER_MS, limit=1)
    ] == [old.id]
    assert scheduled.status is JobStatus.SCHEDULED


# ------------------------------------------------------------------------------------------- leadership


async def test_one_leads_until_it_resigns_or_is_silent(scene: Scene) -> None:
    assert await scene.upkeep.lead("maintainer", "a", for_ms=60_000)
    assert await scene.upkeep.lead("maintainer", "a", for_ms=60_000)
    assert not await scene.upkeep.lead("maintainer", "b", for_ms=60_000)
    assert await scene.upkeep.lead("other", "b", for_ms=60_000)
    await scene.upkeep.resign("maintainer", "b")
    assert not await scene.upkeep.lead("maintainer", "b", for_ms=60_000)
    await scene.upkeep.resign("maintainer", "a")
    assert await scene.upkeep.lead("maintainer", "b", for_ms=60_000)
    await value(
        scene.url, "UPDATE ferryman.leaders SET until = now() - interval '1 ms' WHERE role = 'maintainer'"
    )
    assert await scene.upkeep.lead("maintainer", "a", for_ms=60_000)


async def test_partitions_for_the_week_ahead(scene: Scene) -> None:
    count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'ferryman.job_audit'::regclass"
    last = "SELECT 'ferryman.job_audit_' || to_char((now() AT TIME ZONE 'UTC')::date + 7, 'YYYYMMDD')"
    before = await value(scene.url, count)
    await value(scene.url, f"DO $$ BEGIN EXECUTE 'DROP TABLE ' || ({last}); END $$")
    await scene.upkeep.make_partitions()
    await scene.upkeep.make_partitions()
    assert await value(scene.url, count) == before
