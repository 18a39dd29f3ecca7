"""Attempts: claimed once, fenced by their token, ended by one statement with all that belongs to it."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import Beat, Claimed, Inserted, NewJob
from ferryman.core.priority import score
from ferryman.core.verdict import Cancel, Complete, DeadLetter, Reschedule, RetryAt, Verdict
from ferryman.ledger.attempts import Attempts
from ferryman.ledger.pool import Pools
from ferryman.ledger.submissions import Submissions
from tests.support.ledgers import TYPES, USER, assert_books, claim, new_job, rows, settlement, value
from tests.support.servers import Database

FAILURE = Failure(
    error_class=ErrorClass.TRANSIENT,
    message="no route",
    details={"exception": "OSError"},
    fingerprint="f" * 16,
)


@pytest.fixture
def attempts(pools: Pools) -> Attempts:
    return Attempts(pools)


@pytest.fixture
def submissions(pools: Pools) -> Submissions:
    return Submissions(pools)


class Scene:
    """A job in a database, read by the owner."""

    def __init__(self, attempts: Attempts, submissions: Submissions, url: str) -> None:
        self.attempts = attempts
        self.submissions = submissions
        self.url = url

    async def submit(self, **fields: Any) -> Inserted:
        return await self.submissions.insert(new_job(**fields), USER)

    async def running(self, **fields: Any) -> Claimed:
        job = await self.submit(**fields)
        (claimed,) = await claim(self.attempts, job.id, queue=job.queue)
        return claimed

    async def row(self, job_id: UUID) -> Any:
        return (await rows(self.url, "SELECT * FROM ferryman.jobs WHERE id = $1", job_id))[0]

    async def change(self, job_id: UUID, assignments: str) -> None:
        await value(self.url, f"UPDATE ferryman.jobs SET {assignments} WHERE id = $1", job_id)

    async def audit(self, job_id: UUID) -> list[Any]:
        return await rows(self.url, "SELECT * FROM ferryman.job_audit WHERE job_id = $1 ORDER BY at", job_id)

    async def end(self, claimed: Claimed, verdict: Verdict | None = None, **fields: Any) -> Any:
        return await self.attempts.settle("w1", [settlement(claimed, verdict, **fields)])


@pytest.fixture
def scene(attempts: Attempts, submissions: Submissions, ledger_database: Database) -> Scene:
    return Scene(attempts, submissions, ledger_database.owner_url)


# ---------------------------------------------------------------------------------------------- claims


async def test_a_claim_gives_the_job_and_a_lease(scene: Scene) -> None:
    job = new_job(
        priority=3,
        tags=["a"],
        metadata=b'{"k":1}',
        timeout_ms=50,
        visibility_timeout_ms=2_000,
        max_retries_given=True,
        unique_key="u",
    )
    await scene.submissions.insert(job, USER)
    token = uuid4()
    (claimed,) = await scene.attempts.claim("w1", [(job.id, token)], queue="default", types=TYPES)
    row = await scene.row(job.id)
    assert (claimed.id, claimed.token, claimed.attempt) == (job.id, token, 1)
    assert json.loads(claimed.input) == {"message": "hello"}
    assert (claimed.priority, claimed.tags, claimed.metadata) == (3, ["a"], b'{"k": 1}')
    assert (claimed.timeout_ms, claimed.max_retries_given, claimed.unique_key) == (50, True, "u")
    assert claimed.wait_ms == int((claimed.started_at - row["run_at"]).total_seconds() * 1000)
    assert (row["status"], row["worker_id"], row["claim_token"]) == ("running", "w1", token)
    assert row["lease_until"] - row["started_at"] == timedelta(seconds=6)
    last = (await scene.audit(job.id))[-1]
    assert (last["action"], last["at"], last["actor_id"]) == ("claimed", row["started_at"], "w1")
    assert json.loads(last["details"]) == {"token": str(token), "worker": "w1", "waitMs": claimed.wait_ms}


async def test_what_may_not_be_claimed(scene: Scene) -> None:
    running = await scene.running()
    scheduled = await scene.submit(run_in_ms=60_000)
    expired = await scene.submit(expires_in_ms=1_000)
    await scene.change(expired.id, "expires_at = now() - interval '1 second'")
    unknown_type = await scene.submit(type="other")
    paused = await scene.submit(queue="background")
    await value(scene.url, "UPDATE ferryman.queues SET paused = true WHERE name = 'background'")
    of_another_queue = await scene.submit(queue="high_priority")
    ids = [running.id, scheduled.id, expired.id, unknown_type.id, of_another_queue.id, uuid4()]
    assert await claim(scene.attempts, *ids) == []
    assert await claim(scene.attempts, paused.id, queue="background") == []
    assert await scene.attempts.claim("w1", [], queue="default", types=TYPES) == []
    await assert_books(scene.url)


async def test_a_job_is_claimed_up_to_a_second_early(scene: Scene) -> None:
    job = await scene.submit(run_in_ms=900)
    (claimed,) = await claim(scene.attempts, job.id)
    assert claimed.wait_ms == 0


async def test_ready_jobs_are_claimed_in_the_order_of_their_aged_scores(scene: Scene) -> None:
    jobs = [await scene.submit(priority=priority) for priority in (0, 0, 5, 5, 1, 0)]
    # A level is worth a minute of waiting.
    await scene.change(jobs[5].id, "ready_since = ready_since - interval '2 minutes'")
    await scene.change(jobs[1].id, "ready_since = ready_since - interval '10 minutes'")
    far = await scene.submit(run_in_ms=60_000, priority=100)
    other = await scene.submit(type="other", priority=100)
    order = []
    while claimed := await scene.attempts.claim_ready("w1", "default", [uuid4()], types=TYPES):
        order += [one.id for one in claimed]
    assert order == [jobs[n].id for n in (1, 2, 3, 5, 4, 0)]
    assert {(await scene.row(job.id))["status"] for job in (far, other)} == {"pending"}


async def test_two_workers_claim_different_jobs_from_the_ledger(scene: Scene) -> None:
    for _ in range(10):
        await scene.submit()
    first = await scene.attempts.claim_ready("w1", "default", [uuid4() for _ in range(6)], types=TYPES)
    second = await scene.attempts.claim_ready("w2", "default", [uuid4() for _ in range(6)], types=TYPES)
    assert (len(first), len(second)) == (6, 4)
    assert len({one.id for one in first + second} | {one.token for one in first + second}) == 20
    await assert_books(scene.url)


async def test_a_claim_starts_with_no_progress_but_its_cursor(scene: Scene) -> None:
    claimed = await scene.running()
    progress = {"percent": 50.0, "note": "half", "cursor": b'{"page": 3}'}
    assert await scene.attempts.report_progress(claimed.id, claimed.token, **progress)  # type: ignore[arg-type]
    await scene.end(claimed, RetryAt(0, FAILURE))
    (again,) = await claim(scene.attempts, claimed.id)
    row = await scene.row(claimed.id)
    assert (row["progress_percent"], row["progress_note"], again.cursor) == (None, None, b'{"page": 3}')


# ------------------------------------------------------------------------------------------------- ends


async def test_a_completion(scene: Scene) -> None:
    claimed = await scene.running()
    (position,) = await scene.end(claimed, Complete(b'{"reply":"HI"}'), run_ms=40)
    row = await scene.row(claimed.id)
    assert (position.id, position.queue, position.kind) == (claimed.id, "default", "gone")
    assert (row["status"], row["output_data"]) == ("completed", '{"reply": "HI"}')
    assert (row["claim_token"], row["lease_until"], row["worker_id"]) == (None, None, "w1")
    last = (await scene.audit(claimed.id))[-1]
    assert (last["action"], last["at"]) == ("completed", row["completed_at"])
    details = json.loads(last["details"])
    assert (details["token"], details["runMs"]) == (str(claimed.token), 40)
    totals = await rows(scene.url, "SELECT completions, service_ms FROM ferryman.queue_totals")
    assert sum(row["completions"] for row in totals) == 1
    assert sum(row["service_ms"] for row in totals) == 40
    await assert_books(scene.url)


async def test_a_retry(scene: Scene) -> None:
    claimed = await scene.running(priority=2)
    (position,) = await scene.end(claimed, RetryAt(1_500, FAILURE), run_ms=40)
    row = await scene.row(claimed.id)
    assert (row["status"], row["retry_count"], row["crashes"]) == ("pending", 1, 0)
    assert row["run_at"] == row["ready_since"] == row["updated_at"] + timedelta(milliseconds=1_500)
    assert (row["error_class"], row["error_message"]) == ("TRANSIENT", "no route")
    ready_ms = int(row["ready_since"].timestamp() * 1000)
    assert position.score == score(ready_ms=ready_ms, priority=2, aging_ms=60_000)
    assert (position.kind, position.due_in_ms, position.retrying) == ("waiting", 1_500, True)
    (entry,) = json.loads(row["failed_attempts"])
    assert entry | {"startedAt": "", "endedAt": ""} == {
        "attempt": 1,
        "startedAt": "",
        "endedAt": "",
        "waitMs": claimed.wait_ms,
        "runMs": 40,
        "workerId": "w1",
        "outcome": "retried",
        "error": {
            "class": "TRANSIENT",
            "message": "no route",
            "details": {"exception": "OSError"},
            "fingerprint": "f" * 16,
        },
        "nextDelayMs": 1_500,
        "countsAsRetry": True,
        "traceId": None,
    }
    assert (
        entry["startedAt"]
        == f"{row['started_at']:%Y-%m-%dT%H:%M:%S}.{row['started_at'].microsecond // 1000:03}Z"
    )
    details = json.loads((await scene.audit(claimed.id))[-1]["details"])
    assert (details["delayMs"], details["error"]) == (1_500, {"class": "TRANSIENT", "message": "no route"})
    await assert_books(scene.url)


async def test_a_completion_after_a_retry_forgets_the_error(scene: Scene) -> None:
    claimed = await scene.running()
    await scene.end(claimed, RetryAt(0, FAILURE))
    (again,) = await claim(scene.attempts, claimed.id)
    assert (again.attempt, again.failures) == (2, 1)
    await scene.end(again)
    row = await scene.row(claimed.id)
    assert (row["error_class"], row["error_message"], row["error_details"]) == (None, None, None)
    assert len(json.loads(row["failed_attempts"])) == 1
    await assert_books(scene.url)


async def test_a_dead_letter_keeps_everything(scene: Scene) -> None:
    claimed = await scene.running(tags=["t"], metadata=b'{"m":1}', priority=4, queue="high_priority")
    await scene.end(claimed, RetryAt(0, FAILURE))
    (again,) = await claim(scene.attempts, claimed.id, queue=claimed.queue)
    (position,) = await scene.end(again, DeadLetter(FAILURE))
    assert position.kind == "gone"
    row = await scene.row(claimed.id)
    (letter,) = await rows(scene.url, "SELECT * FROM ferryman.dead_letter_jobs")
    assert (row["status"], row["completed_at"]) == ("dead_letter", letter["failed_at"])
    assert (letter["original_job_id"], letter["status"], letter["reason"]) == (claimed.id, "dead", "failed")
    assert (letter["queue_name"], letter["dead_letter_queue"]) == ("high_priority", "high_priority_dlq")
    assert (letter["error_class"], letter["error_fingerprint"]) == ("TRANSIENT", "f" * 16)
    assert (letter["tags"], letter["metadata"], letter["input_data"]) == (
        ["t"],
        '{"m": 1}',
        '{"message": "hello"}',
    )
    assert (letter["attempt"], letter["retry_count"], letter["redrives"]) == (2, 1, 0)
    assert [entry["outcome"] for entry in json.loads(letter["attempts"])] == ["retried", "dead_lettered"]
    assert letter["attempts"] == row["failed_attempts"]
    await assert_books(scene.url)


@pytest.mark.parametrize("because", ["released", "snoozed"])
async def test_a_rescheduled_attempt_costs_nothing(scene: Scene, because: str) -> None:
    claimed = await scene.running()
    before = await scene.row(claimed.id)
    delay_ms = 7_000 if because == "snoozed" else 0
    (position,) = await scene.end(claimed, Reschedule(delay_ms, because))
    row = await scene.row(claimed.id)
    assert (row["status"], row["retry_count"], row["crashes"]) == ("pending", 0, 0)
    assert (position.kind, position.due_in_ms) == ("waiting", delay_ms)
    # What was released is first in line again.
    assert (row["ready_since"] == before["ready_since"]) is (because == "released")
    assert row["run_at"] == row["updated_at"] + timedelta(milliseconds=delay_ms)
    assert (await scene.audit(claimed.id))[-1]["action"] == because
    await assert_books(scene.url)


async def test_a_cancelled_attempt(scene: Scene) -> None:
    claimed = await scene.running()
    await scene.end(claimed, Cancel())
    row = await scene.row(claimed.id)
    assert (row["status"], row["completed_at"]) == ("cancelled", row["updated_at"])
    await assert_books(scene.url)


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Complete(b"{}"), "completed"),
        (DeadLetter(FAILURE), "dead_letter"),
        (RetryAt(10, FAILURE), "cancelled"),
        (Reschedule(0, "released"), "cancelled"),
        (Cancel(), "cancelled"),
    ],
)
async def test_a_cancellation_that_was_asked_for_ends_what_would_wait_again(
    scene: Scene, verdict: Verdict, status: str
) -> None:
    claimed = await scene.running()
    await scene.change(claimed.id, "cancel_requested = true")
    (position,) = await scene.end(claimed, verdict)
    assert (position.kind, (await scene.row(claimed.id))["status"]) == ("gone", status)
    await assert_books(scene.url)


async def test_an_end_without_its_token_changes_nothing(scene: Scene) -> None:
    claimed = await scene.running()
    stranger = Claimed(**{name: getattr(claimed, name) for name in Claimed.__struct_fields__})
    stranger.token = uuid4()
    for verdict in (Complete(b"{}"), RetryAt(0, FAILURE), DeadLetter(FAILURE), Cancel()):
        assert await scene.end(stranger, verdict) == []
    assert len(await scene.audit(claimed.id)) == 2
    assert len(await scene.end(claimed)) == 1
    assert await scene.end(claimed) == []  # an end is an end
    await assert_books(scene.url)


async def test_a_mixed_batch(scene: Scene) -> None:
    claimed = [await scene.running() for _ in range(6)]
    verdicts: list[Verdict] = [
        Complete(b'{"n":1}'),
        RetryAt(5, FAILURE),
        DeadLetter(FAILURE),
        Cancel(),
        Reschedule(9, "snoozed"),
        Reschedule(0, "released"),
    ]
    batch = [settlement(one, verdict) for one, verdict in zip(claimed, verdicts, strict=True)]
    positions = await scene.attempts.settle("w1", batch)
    assert {position.id for position in positions} == {one.id for one in claimed}
    statuses = [(await scene.row(one.id))["status"] for one in claimed]
    assert statuses == ["completed", "pending", "dead_letter", "cancelled", "pending", "pending"]
    await assert_books(scene.url)


async def test_a_refused_result_dead_letters_its_own_job_only(scene: Scene) -> None:
    claimed = [await scene.running() for _ in range(9)]
    batch = [settlement(one) for one in claimed]
    batch[4].verdict = Complete(b'{"a":"\\u0000"}')
    batch[6].verdict = Complete(b'{"a":"\xff"}')
    assert len(await scene.attempts.settle("w1", batch)) == 9
    statuses = [(await scene.row(one.id))["status"] for one in claimed]
    assert statuses.count("completed") == 7
    for number in (4, 6):
        row = await scene.row(claimed[number].id)
        assert (row["status"], row["error_class"]) == ("dead_letter", "VALIDATION")
    await assert_books(scene.url)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(error_class=ErrorClass.TRANSIENT, message="a\x00b", details={}, fingerprint="f"),
        Failure(error_class=ErrorClass.TRANSIENT, message="m", details={"a": "b\x00"}, fingerprint="f"),
        Failure(error_class=ErrorClass.TRANSIENT, message="m", details={"a": object()}, fingerprint="f"),
        Failure(error_class=ErrorClass.TRANSIENT, message="\ud800", details={}, fingerprint="f"),
    ],
)
async def test_an_unprintable_failure_is_a_failure_all_the_same(scene: Scene, failure: Failure) -> None:
    claimed = await scene.running()
    (position,) = await scene.end(claimed, RetryAt(1, failure))
    assert (position.kind, (await scene.row(claimed.id))["retry_count"]) == ("waiting", 1)


async def test_a_list_of_failed_attempts_has_an_end(scene: Scene) -> None:
    claimed = await scene.running()
    entries = json.dumps([{"attempt": number} for number in range(250)])
    await scene.change(claimed.id, f"failed_attempts = '{entries}'")
    await scene.end(claimed, Reschedule(0, "snoozed"))
    kept = json.loads((await scene.row(claimed.id))["failed_attempts"])
    assert (len(kept), kept[0]["attempt"], kept[-1]["outcome"]) == (250, 1, "snoozed")


# --------------------------------------------------------------------------------------------- children


async def test_children_enter_with_the_completion(scene: Scene) -> None:
    claimed = await scene.running()
    children = [new_job(parent_id=claimed.id), new_job(parent_id=claimed.id, run_in_ms=500)]
    positions = await scene.end(claimed, children=children)
    by_id = {position.id: position for position in positions}
    assert by_id[claimed.id].kind == "gone"
    assert [by_id[child.id].kind for child in children] == ["waiting", "waiting"]
    assert by_id[children[1].id].due_in_ms == 500
    assert (await scene.row(children[0].id))["parent_id"] == claimed.id
    await assert_books(scene.url)


async def test_children_of_a_lost_lease_do_not_exist(scene: Scene) -> None:
    claimed = await scene.running()
    await scene.end(claimed, Reschedule(0, "released"))
    assert await scene.end(claimed, children=[new_job()]) == []
    assert await value(scene.url, "SELECT count(*) FROM ferryman.jobs") == 1


@pytest.mark.parametrize("child", [new_job(queue="nowhere"), new_job(input=b'{"a":"\\u0000"}')])
async def test_a_child_that_cannot_be_stored_dead_letters_its_parent_only(
    scene: Scene, child: NewJob
) -> None:
    first, second = await scene.running(), await scene.running()
    good = new_job()
    batch = [settlement(first, children=[child]), settlement(second, children=[good])]
    await scene.attempts.settle("w1", batch)
    assert (await scene.row(first.id))["status"] == "dead_letter"
    assert (await scene.row(second.id))["status"] == "completed"
    assert (await scene.row(good.id))["status"] == "pending"
    await assert_books(scene.url)


async def test_a_child_that_has_a_twin_is_left_to_it(scene: Scene) -> None:
    twin = await scene.submit(unique_key="k")
    claimed = await scene.running()
    positions = await scene.end(claimed, children=[new_job(unique_key="k")])
    assert [position.id for position in positions] == [claimed.id]
    assert (await scene.row(twin.id))["status"] == "pending"


# ------------------------------------------------------------------------------------------------ beats


def _beat(*held: tuple[UUID, UUID]) -> Beat:
    return Beat(
        worker_id="w1",
        pod="pod-1",
        queues=["default"],
        types=["chat"],
        slots=10,
        busy=len(held),
        state="running",
        held=list(held),
    )


async def test_a_beat_tells_what_became_of_the_attempts(scene: Scene) -> None:
    kept, lost, stopped = [await scene.running() for _ in range(3)]
    await scene.end(lost, Reschedule(0, "released"))
    await scene.change(stopped.id, "cancel_requested = true")
    answer = await scene.attempts.beat(
        _beat(*((one.id, one.token) for one in (kept, lost, stopped)), (uuid4(), uuid4()))
    )
    assert answer.cancelled == {stopped.id}
    assert lost.id in answer.lost
    assert len(answer.lost) == 2
    assert not answer.drain


async def test_a_beat_renews_leases_but_not_at_every_beat(scene: Scene) -> None:
    claimed = await scene.running(visibility_timeout_ms=60_000)
    held = (claimed.id, claimed.token)
    fresh = (await scene.row(claimed.id))["lease_until"]
    await scene.attempts.beat(_beat(held))
    assert (await scene.row(claimed.id))["lease_until"] == fresh
    await scene.change(claimed.id, "lease_until = lease_until - interval '11 seconds'")
    await scene.attempts.beat(_beat(held))
    assert (await scene.row(claimed.id))["lease_until"] > fresh


async def test_a_beat_registers_the_worker_and_brings_the_request_to_drain(scene: Scene) -> None:
    await scene.attempts.beat(_beat())
    (row,) = await rows(scene.url, "SELECT * FROM ferryman.workers")
    assert (row["id"], row["pod"], row["slots"], row["state"]) == ("w1", "pod-1", 10, "running")
    await value(scene.url, "UPDATE ferryman.workers SET drain_requested = true")
    assert (await scene.attempts.beat(_beat())).drain
    await scene.attempts.leave("w1")
    assert await rows(scene.url, "SELECT * FROM ferryman.workers") == []
    assert not (await scene.attempts.beat(_beat())).drain  # one that was thought lost is simply back


async def test_isolation_and_progress_are_fenced(scene: Scene) -> None:
    claimed = await scene.running()
    assert await scene.attempts.isolate(claimed.id, claimed.token)
    assert (await scene.row(claimed.id))["isolated"]
    assert not await scene.attempts.isolate(claimed.id, uuid4())
    assert not await scene.attempts.report_progress(claimed.id, uuid4(), percent=1.0, note=None, cursor=None)
    assert await scene.attempts.report_progress(
        claimed.id, claimed.token, percent=1.0, note=None, cursor=b"1"
    )
    assert await scene.attempts.report_progress(
        claimed.id, claimed.token, percent=None, note="n", cursor=None
    )
    row = await scene.row(claimed.id)
    assert (row["progress_percent"], row["progress_note"], row["cursor"]) == (1.0, "n", "1")
    await scene.end(claimed, Reschedule(0, "released"))
    assert not (await scene.row(claimed.id))["isolated"]
