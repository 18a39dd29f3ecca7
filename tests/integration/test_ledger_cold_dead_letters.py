"""Dead letters: read, requeued, discarded, and reconciled with exactly what a preview showed."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferryman.core.failures import ErrorClass, Failure
from ferryman.core.job import DeadLetterRecord
from ferryman.core.queues import QueueSettings
from ferryman.core.status import JobStatus
from ferryman.core.verdict import DeadLetter
from ferryman.ledger.pool import Pools
from ferryman.ports import DigestUnknownError, LetterFilter, Page, RedriveResult, Scope, UnknownQueueError
from tests.support.ledgers import assert_books, claim, connected, rows, settlement
from tests.support.servers import Database
from tests.support.stores import ACME, ADMIN, BROKEN, EVERYONE, GLOBEX, PLATFORM, Stores

ALL = LetterFilter()
ANY_STATUS = LetterFilter(status=None)


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


def failure(error_class: ErrorClass, fingerprint: str = "a" * 16) -> Failure:
    return Failure(error_class=error_class, message="m", details={}, fingerprint=fingerprint, reason="tried")


async def letters(stores: Stores, count: int, **fields: Any) -> list[UUID]:
    """So many letters, oldest first."""
    return [await stores.letter_of(await stores.dead(**fields)) for _ in range(count)]


async def redrive(
    stores: Stores, scope: Scope = ACME, wanted: LetterFilter = ALL, **how: Any
) -> RedriveResult:
    defaults: dict[str, Any] = {
        "digest": None,
        "max_redrives": None,
        "batch_size": 100,
        "reset_retries": True,
    }
    return await stores.letters.redrive(scope, wanted, ADMIN, **(defaults | how))


async def found(stores: Stores, wanted: LetterFilter, scope: Scope = ACME, limit: int = 50) -> list[UUID]:
    page: Page[DeadLetterRecord] = await stores.letters.find(scope, wanted, limit=limit, after=None)
    return [letter.id for letter in page.rows]


async def test_a_letter_keeps_the_whole_job(stores: Stores) -> None:
    job_id = await stores.dead(tags=["a"], metadata=b'{"order": 12}', input=b'{"x": 1}')
    letter = await stores.letters.get(ACME, await stores.letter_of(job_id))
    assert letter is not None
    assert (letter.original_job_id, letter.tenant_id, letter.user_id, letter.type) == (
        job_id,
        "acme",
        7,
        "chat",
    )
    assert (letter.queue, letter.status, letter.reason, letter.failure_class) == (
        "default",
        "dead",
        "failed",
        "PERMANENT",
    )
    assert (letter.message, json.loads(letter.details), letter.fingerprint) == (
        "it broke",
        {"line": 3},
        "f" * 16,
    )
    assert (json.loads(letter.input), letter.tags, json.loads(letter.metadata)) == (
        {"x": 1},
        ["a"],
        {"order": 12},
    )
    (attempt,) = json.loads(letter.attempts)
    assert (attempt["attempt"], attempt["outcome"], attempt["error"]["message"]) == (
        1,
        "dead_lettered",
        "it broke",
    )
    assert (letter.retry_count, letter.max_retries, letter.redrives, letter.worker_id) == (0, 3, 0, "w1")


async def test_the_list_is_of_dead_ones_newest_first(stores: Stores) -> None:
    first, second, third = await letters(stores, 3)
    await stores.letters.requeue(ACME, second, ADMIN)
    await stores.letters.discard(ACME, third, ADMIN)
    assert await found(stores, ALL) == [first]
    assert await found(stores, LetterFilter(status="requeued")) == [second]
    assert await found(stores, LetterFilter(status="discarded")) == [third]
    assert await found(stores, ANY_STATUS) == [third, second, first]
    assert await found(stores, ANY_STATUS, EVERYONE) == [third, second, first]


async def test_filters_narrow(stores: Stores, ledger_database: Database) -> None:
    (a,) = await letters(stores, 1, queue="default", type="chat")
    (b,) = await letters(stores, 1, queue="background", failure=failure(ErrorClass.TIMEOUT))
    (c,) = await letters(stores, 1, type="memory", failure=failure(ErrorClass.BUSINESS, "b" * 16))
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute(
            "UPDATE ferryman.dead_letter_jobs SET failed_at = now() - interval '1 h' WHERE id = $1", a
        )
    for wanted, expected in (
        (LetterFilter(queue="background"), [b]),
        (LetterFilter(type="memory"), [c]),
        (LetterFilter(error_classes=("TIMEOUT", "BUSINESS")), [c, b]),
        (LetterFilter(fingerprint="b" * 16), [c]),
        (LetterFilter(older_than_ms=1_800_000), [a]),
        (LetterFilter(newer_than_ms=1_800_000), [c, b]),
        (LetterFilter(newer_than_ms=1_800_000, older_than_ms=1_800_000), []),
        (LetterFilter(queue="default", type="chat"), [a]),
    ):
        assert await found(stores, wanted) == expected
        assert (await stores.letters.preview(ACME, wanted, max_redrives=None, batch_size=9)).matched == len(
            expected
        )


async def test_pages_cover_every_letter_once(stores: Stores) -> None:
    made = await letters(stores, 7)
    await letters(stores, 2, tenant_id="globex")
    for limit in (1, 2, 3, 7, 8):
        seen: list[UUID] = []
        after: UUID | None = None
        while True:
            page = await stores.letters.find(ACME, ALL, limit=limit, after=after)
            seen += [letter.id for letter in page.rows]
            after = page.next_after
            if after is None:
                break
        assert seen == made[::-1]


async def test_a_requeued_letter_is_not_dead(stores: Stores, ledger_database: Database) -> None:
    (letter_id,) = await letters(stores, 1)
    result, position = await stores.letters.requeue(ACME, letter_id, ADMIN)
    assert result == "requeued"
    assert position is not None
    assert position.kind == "waiting"
    assert await stores.letters.requeue(ACME, letter_id, ADMIN) == ("not_dead", None)
    assert await stores.letters.discard(ACME, letter_id, ADMIN) == "not_dead"
    await assert_books(ledger_database.owner_url)


async def test_a_closed_letter_outlives_its_job(stores: Stores, ledger_database: Database) -> None:
    (letter_id,) = await letters(stores, 1)
    await stores.letters.requeue(ACME, letter_id, ADMIN)
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute("DELETE FROM ferryman.jobs")
    assert await stores.letters.requeue(ACME, letter_id, ADMIN) == ("not_dead", None)
    assert await stores.letters.discard(ACME, letter_id, ADMIN) == "not_dead"


async def test_a_discarded_letter_stays_readable_and_closed(
    stores: Stores, ledger_database: Database
) -> None:
    (letter_id,) = await letters(stores, 1)
    assert await stores.letters.discard(ACME, letter_id, ADMIN) == "discarded"
    assert await stores.letters.discard(ACME, letter_id, ADMIN) == "not_dead"
    assert await stores.letters.requeue(ACME, letter_id, ADMIN) == ("not_dead", None)
    letter = await stores.letters.get(ACME, letter_id)
    assert letter is not None
    assert letter.status == "discarded"
    job = await stores.lookup.get(ACME, letter.original_job_id)
    assert job is not None
    assert job.status == JobStatus.DEAD_LETTER
    (row,) = await rows(
        ledger_database.owner_url, "SELECT * FROM ferryman.job_audit WHERE action = 'discarded'"
    )
    assert (row["override"], row["override_reason"]) == (True, "asked for by its owner")
    await assert_books(ledger_database.owner_url)


async def test_unknown_letters_are_not_found(stores: Stores) -> None:
    assert await stores.letters.get(ACME, uuid4()) is None
    assert await stores.letters.requeue(ACME, uuid4(), ADMIN) == ("not_found", None)
    assert await stores.letters.discard(ACME, uuid4(), ADMIN) == "not_found"


async def test_a_letter_needs_its_queue(stores: Stores) -> None:
    await stores.queues.put("gone", QueueSettings(), PLATFORM)
    (letter_id,) = await letters(stores, 1, queue="gone")
    await stores.queues.delete("gone", PLATFORM)
    with pytest.raises(UnknownQueueError):
        await stores.letters.requeue(ACME, letter_id, ADMIN)
    assert await redrive(stores) == RedriveResult(requeued=0, skipped=0, remaining=1, positions=[])


async def test_requeueing_at_the_same_time_has_one_winner(stores: Stores, ledger_database: Database) -> None:
    made = await letters(stores, 10)
    for letter_id in made:
        answers = await asyncio.gather(
            *(stores.letters.requeue(ACME, letter_id, ADMIN) for _ in range(3)),
            stores.letters.discard(ACME, letter_id, ADMIN),
        )
        won = [answer for answer in answers if answer[0] == "requeued" or answer == "discarded"]
        assert len(won) == 1
    await assert_books(ledger_database.owner_url)


async def test_redrives_at_the_same_time_move_each_letter_once(
    stores: Stores, ledger_database: Database
) -> None:
    made = await letters(stores, 30)
    results = await asyncio.gather(*(redrive(stores) for _ in range(4)))
    assert sum(result.requeued for result in results) == len(made)
    moved = [position.id for result in results for position in result.positions]
    assert len(moved) == len(set(moved)) == len(made)
    await assert_books(ledger_database.owner_url)


async def test_a_redrive_takes_the_oldest_first(stores: Stores, ledger_database: Database) -> None:
    made = await letters(stores, 5)
    result = await redrive(stores, batch_size=2)
    assert (result.requeued, result.skipped, result.remaining) == (2, 0, 3)
    assert {position.kind for position in result.positions} == {"waiting"}
    assert await found(stores, ALL) == made[:1:-1]
    await assert_books(ledger_database.owner_url)


async def test_a_digest_moves_what_was_previewed(stores: Stores, ledger_database: Database) -> None:
    a, b, c = await letters(stores, 3)
    preview = await stores.letters.preview(ACME, ALL, max_redrives=None, batch_size=100)
    assert preview.matched == 3
    assert [letter.id for letter in preview.sample] == [a, b, c]
    (late,) = await letters(stores, 1)
    await stores.letters.discard(ACME, b, ADMIN)
    result = await redrive(stores, digest=preview.digest)
    assert (result.requeued, result.skipped, result.remaining) == (2, 1, 1)
    assert await found(stores, ALL) == [late]
    await assert_books(ledger_database.owner_url)


async def test_a_digest_is_good_once_for_its_tenant_and_an_hour(
    stores: Stores, ledger_database: Database
) -> None:
    await letters(stores, 2)
    digests = [
        (await stores.letters.preview(ACME, ALL, max_redrives=None, batch_size=9)).digest for _ in range(3)
    ]
    assert len(set(digests)) == 3
    for scope in (GLOBEX, EVERYONE):
        with pytest.raises(DigestUnknownError):
            await redrive(stores, scope, digest=digests[0])
    with pytest.raises(DigestUnknownError):
        await redrive(stores, digest="0" * 64)
    assert (await redrive(stores, digest=digests[0])).requeued == 2
    with pytest.raises(DigestUnknownError):
        await redrive(stores, digest=digests[0])
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute(
            "UPDATE ferryman.redrive_previews SET created_at = created_at - interval '61 minutes'"
            " WHERE digest = $1",
            digests[1],
        )
    with pytest.raises(DigestUnknownError):
        await redrive(stores, digest=digests[1])
    await stores.letters.preview(ACME, ALL, max_redrives=None, batch_size=9)
    kept = await rows(ledger_database.owner_url, "SELECT digest FROM ferryman.redrive_previews")
    assert digests[1] not in {row["digest"] for row in kept}


async def test_two_applies_of_one_digest_have_one_winner(stores: Stores) -> None:
    await letters(stores, 3)
    digest = (await stores.letters.preview(ACME, ALL, max_redrives=None, batch_size=9)).digest
    answers = await asyncio.gather(
        *(redrive(stores, digest=digest) for _ in range(4)), return_exceptions=True
    )
    done = [answer for answer in answers if isinstance(answer, RedriveResult)]
    assert [answer.requeued for answer in done] == [3]
    assert sum(isinstance(answer, DigestUnknownError) for answer in answers) == 3


async def test_a_job_that_came_back_often_enough_stays(stores: Stores) -> None:
    fresh = await stores.dead()
    often = await stores.dead()
    await stores.changes.retry(ACME, often, ADMIN)
    (claimed,) = await claim(stores.attempts, often)
    await stores.attempts.settle("w1", [settlement(claimed, DeadLetter(BROKEN))])
    assert (await redrive(stores, max_redrives=0)).requeued == 0
    result = await redrive(stores, max_redrives=1)
    assert [position.id for position in result.positions] == [fresh]
    assert result.remaining == 0
    assert [position.id for position in (await redrive(stores, max_redrives=2)).positions] == [often]


async def test_retries_may_stay_spent(stores: Stores, ledger_database: Database) -> None:
    job_id = await stores.dead()
    async with connected(ledger_database.owner_url) as connection:
        await connection.execute("UPDATE ferryman.jobs SET retry_count = 3, crashes = 2")
    assert (await redrive(stores, reset_retries=False)).requeued == 1
    job = await stores.lookup.get(ACME, job_id)
    assert job is not None
    assert (job.retry_count, job.crashes) == (3, 2)
    assert len(await claim(stores.attempts, job_id)) == 1, "one attempt it always gets"


async def test_a_rate_spreads_the_starts(stores: Stores) -> None:
    await letters(stores, 5)
    result = await redrive(stores, rate_per_second=2)
    due = sorted(position.due_in_ms for position in result.positions)
    assert due[0] == 0
    assert [later - due[1] for later in due[2:]] == [500, 1000, 1500]


async def test_twins_among_the_letters_go_one_at_a_time(stores: Stores, ledger_database: Database) -> None:
    first = await stores.dead(unique_key="k")
    second = await stores.dead(unique_key="k")
    other_type = await stores.dead(unique_key="k", type="memory")
    result = await redrive(stores)
    assert {position.id for position in result.positions} == {first, other_type}
    assert (result.skipped, result.remaining) == (1, 1)
    assert (await redrive(stores)).requeued == 0
    await stores.changes.cancel(ACME, first, ADMIN)
    assert [position.id for position in (await redrive(stores)).positions] == [second]
    await assert_books(ledger_database.owner_url)


async def test_blocked_letters_do_not_hold_up_the_rest(stores: Stores) -> None:
    for _ in range(3):
        await stores.dead(unique_key="k")
    await stores.submitted(unique_key="k")
    free = await stores.dead()
    result = await redrive(stores, batch_size=2)
    assert [position.id for position in result.positions] == [free]
    assert (result.skipped, result.remaining) == (0, 3)


async def test_a_service_redrives_across_tenants(stores: Stores) -> None:
    await letters(stores, 2)
    await letters(stores, 3, tenant_id="globex")
    assert (await redrive(stores, GLOBEX)).requeued == 3
    result = await redrive(stores, EVERYONE)
    assert [position.tenant_id for position in result.positions] == ["acme", "acme"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_redrive_moves_exactly_its_preview(stores: Stores, data: st.DataObject) -> None:
    tenant = f"t{uuid4().hex[:12]}"
    scope = Scope(tenant_id=tenant)
    kinds = st.tuples(st.sampled_from(["default", "background"]), st.sampled_from(["chat", "memory"]))
    for queue, kind in data.draw(st.lists(kinds, max_size=8)):
        await stores.dead(tenant_id=tenant, queue=queue, type=kind)
    wanted = LetterFilter(
        queue=data.draw(st.sampled_from([None, "default", "background"])),
        type=data.draw(st.sampled_from([None, "chat"])),
    )
    batch_size = data.draw(st.integers(1, 9))
    matching = (await found(stores, wanted, scope))[::-1]
    preview = await stores.letters.preview(scope, wanted, max_redrives=None, batch_size=batch_size)
    promised = matching[:batch_size]
    assert preview.matched == len(matching)
    assert [letter.id for letter in preview.sample] == promised[:10]
    gone = data.draw(st.lists(st.sampled_from(matching), unique=True)) if matching else []
    for letter_id in gone:
        await stores.letters.discard(scope, letter_id, ADMIN)
    for _ in range(data.draw(st.integers(0, 2))):
        await stores.dead(tenant_id=tenant)
    result = await redrive(stores, scope, wanted, digest=preview.digest)
    moved = await found(stores, LetterFilter(status="requeued"), scope)
    assert sorted(moved) == sorted(set(promised) - set(gone))
    assert result.requeued == len(moved) == len(result.positions)
    assert result.skipped == len(promised) - len(moved)
    assert result.remaining == len(await found(stores, wanted, scope))
