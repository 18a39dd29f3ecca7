"""Queues: replaced as a whole, paused and resumed, deleted only when nothing can be left in them."""

import asyncio
import json

import pytest

from ferryman.core.queues import BUILT_IN, QueueSettings, Retention
from ferryman.core.webhooks import WEBHOOK_QUEUE
from ferryman.ledger.pool import Pools
from ferryman.ledger.statements import statement
from ferryman.ledger.submissions import Submission, columns
from ferryman.ports import QueueNotEmptyError, UnknownQueueError
from tests.support.ledgers import USER, blocked, connected, new_job, rows
from tests.support.servers import Database
from tests.support.stores import ACME, ADMIN, EVERYONE, PLATFORM, Stores


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def audit(database: Database) -> list[tuple[str, str | None]]:
    found = await rows(
        database.owner_url,
        "SELECT action, queue_name FROM ferryman.job_audit WHERE job_id IS NULL ORDER BY at, id",
    )
    return [(row["action"], row["queue_name"]) for row in found]


async def test_the_three_are_there_from_the_start_and_that_of_the_system(stores: Stores) -> None:
    found = {record.name: record for record in await stores.queues.all()}
    assert found.pop(WEBHOOK_QUEUE).settings.retry.max_retries == 15
    assert {name: record.settings for name, record in found.items()} == dict(BUILT_IN)
    assert {(record.paused, record.version) for record in found.values()} == {(False, 1)}
    assert await stores.queues.get("background") == found["background"]
    assert await stores.queues.get("nowhere") is None


async def test_a_put_creates_then_replaces_everything(stores: Stores, ledger_database: Database) -> None:
    first = QueueSettings(max_size=5, retention=Retention(completed_ms=1), paused=True)
    record, created = await stores.queues.put("mail", first, PLATFORM)
    assert (created, record.version, record.paused, record.settings.max_size) == (True, 1, True, 5)
    record, created = await stores.queues.put("mail", QueueSettings(max_backlog=7), PLATFORM)
    assert (created, record.version) == (False, 2)
    assert record.settings == QueueSettings(max_backlog=7)
    assert record.paused, "what is not said leaves it paused"
    record, _ = await stores.queues.put("mail", QueueSettings(paused=False), PLATFORM)
    assert (record.paused, record.version) == (False, 3)
    assert await stores.queues.get("mail") == record
    assert await audit(ledger_database) == [
        ("queue_created", "mail"),
        ("queue_replaced", "mail"),
        ("queue_replaced", "mail"),
    ]


async def test_a_change_is_audited_with_what_it_set(stores: Stores, ledger_database: Database) -> None:
    await stores.queues.put("mail", QueueSettings(max_size=5), ADMIN)
    (row,) = await rows(ledger_database.owner_url, "SELECT * FROM ferryman.job_audit")
    assert (row["tenant_id"], row["job_id"], row["actor_kind"], row["actor_id"]) == (None, None, "admin", "1")
    assert (row["override_reason"], row["correlation_id"]) == ("asked for by its owner", "corr-9")
    details = json.loads(row["details"])
    assert (details["version"], details["paused"], details["settings"]["maxSize"]) == (1, False, 5)


async def test_pausing_twice_is_one_change(stores: Stores, ledger_database: Database) -> None:
    for paused, version in ((True, 2), (True, 2), (False, 3)):
        record = await stores.queues.set_paused("default", paused, PLATFORM)
        assert record is not None
        assert (record.paused, record.version) == (paused, version)
        assert await stores.queues.get("default") == record
    assert await stores.queues.set_paused("nowhere", True, PLATFORM) is None
    assert await audit(ledger_database) == [("queue_paused", "default"), ("queue_resumed", "default")]


async def test_puts_at_the_same_time_each_count(stores: Stores) -> None:
    puts = [stores.queues.put("mail", QueueSettings(max_size=n + 1), PLATFORM) for n in range(12)]
    answers = await asyncio.gather(*puts)
    assert sorted(record.version for record, _ in answers) == list(range(1, 13))
    assert sum(created for _, created in answers) == 1


async def test_an_empty_queue_goes_and_its_totals_stay(stores: Stores, ledger_database: Database) -> None:
    await stores.queues.put("mail", QueueSettings(), PLATFORM)
    await stores.ended(queue="mail")
    await stores.dead(queue="mail")
    assert await stores.queues.delete("mail", PLATFORM) is True
    assert await stores.queues.delete("mail", PLATFORM) is False
    assert await stores.queues.get("mail") is None
    with pytest.raises(UnknownQueueError):
        await stores.submitted(queue="mail")
    totals = await rows(
        ledger_database.owner_url, "SELECT arrivals FROM ferryman.queue_totals WHERE queue_name = 'mail'"
    )
    assert sum(row["arrivals"] for row in totals) == 2
    assert (await audit(ledger_database))[-1] == ("queue_deleted", "mail")


async def test_unfinished_jobs_keep_their_queue(stores: Stores, ledger_database: Database) -> None:
    await stores.queues.put("mail", QueueSettings(), PLATFORM)
    for job_id in (
        await stores.submitted(queue="mail"),
        await stores.submitted(queue="mail", run_in_ms=60_000),
        await stores.retrying(queue="mail"),
    ):
        with pytest.raises(QueueNotEmptyError):
            await stores.queues.delete("mail", PLATFORM)
        await stores.changes.cancel(ACME, job_id, ADMIN)
    running = await stores.running(queue="mail")
    with pytest.raises(QueueNotEmptyError):
        await stores.queues.delete("mail", PLATFORM)
    await stores.changes.cancel(EVERYONE, running.id, ADMIN)
    assert ("queue_deleted", "mail") not in await audit(ledger_database)


async def test_a_submission_under_way_keeps_its_queue(stores: Stores, ledger_database: Database) -> None:
    await stores.queues.put("mail", QueueSettings(), PLATFORM)
    arguments = [*columns([Submission(new_job(queue="mail"), USER)]), 0, False]
    async with connected(ledger_database.owner_url) as other:
        transaction = other.transaction()
        await transaction.start()
        assert len(await other.fetch(statement("insert_jobs"), *arguments)) == 1
        deletion = asyncio.create_task(stores.queues.delete("mail", PLATFORM))
        await blocked(ledger_database.owner_url)
        await transaction.commit()
    with pytest.raises(QueueNotEmptyError):
        await deletion


async def test_a_requeue_under_way_keeps_its_queue(stores: Stores, ledger_database: Database) -> None:
    await stores.queues.put("mail", QueueSettings(), PLATFORM)
    letter_id = await stores.letter_of(await stores.dead(queue="mail"))
    async with connected(ledger_database.owner_url) as other:
        transaction = other.transaction()
        await transaction.start()
        arguments = ["acme", None, [letter_id], True, 0.0, "user", "7", False, None, None, None, 0]
        (row,) = await other.fetch(statement("requeue_letters"), *arguments)
        assert row["result"] == "requeued"
        deletion = asyncio.create_task(stores.queues.delete("mail", PLATFORM))
        await blocked(ledger_database.owner_url)
        await transaction.commit()
    with pytest.raises(QueueNotEmptyError):
        await deletion


async def test_a_submission_that_never_commits_does_not_hold_the_deletion_up(
    stores: Stores, ledger_database: Database
) -> None:
    await stores.queues.put("mail", QueueSettings(), PLATFORM)
    arguments = [*columns([Submission(new_job(queue="mail"), USER)]), 0, False]
    async with connected(ledger_database.owner_url) as other, other.transaction():
        await other.fetch(statement("insert_jobs"), *arguments)
        with pytest.raises(QueueNotEmptyError, match="being submitted"):
            await stores.queues.delete("mail", PLATFORM)


async def test_deleting_against_submitting_leaves_no_job_without_a_queue(
    stores: Stores, ledger_database: Database
) -> None:
    async def submit() -> bool:
        try:
            await stores.submitted(queue="mail")
        except UnknownQueueError:
            return False
        return True

    async def delete() -> bool:
        try:
            return await stores.queues.delete("mail", PLATFORM)
        except QueueNotEmptyError:
            return False

    for _ in range(20):
        await stores.queues.put("mail", QueueSettings(), PLATFORM)
        *stored, deleted = await asyncio.gather(*(submit() for _ in range(4)), delete())
        assert not (deleted and any(stored))
        for row in await rows(
            ledger_database.owner_url, "SELECT id FROM ferryman.jobs WHERE status = 'pending'"
        ):
            await stores.changes.cancel(ACME, row["id"], ADMIN)
