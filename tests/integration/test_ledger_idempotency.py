"""Idempotency keys in the ledger: one taker, one answer, and a day's time."""

import asyncio
from uuid import UUID, uuid4

import pytest

from ferryman.ledger.idempotency import IdempotencyKeys
from ferryman.ledger.pool import Pools
from ferryman.ports import KeyHolder, KeyState
from tests.support.ledgers import value
from tests.support.servers import Database

ANN = KeyHolder("acme", 1, "k")


@pytest.fixture
async def keys(pools: Pools) -> IdempotencyKeys:
    return IdempotencyKeys(pools)


async def take(keys: IdempotencyKeys, holder: KeyHolder = ANN, body: bytes = b"a") -> tuple[KeyState, UUID]:
    offered = uuid4()
    return await keys.take(holder, body_hash=body, job_ids=[offered]), offered


async def age(database: Database, column: str, interval: str) -> None:
    """Let a column's time be so long ago."""
    await value(
        database.owner_url,
        f"UPDATE ferryman.idempotency_keys SET {column} = now() - interval '{interval}' RETURNING 1",
    )


async def test_the_first_takes_the_key_and_fixes_the_ids(keys: IdempotencyKeys) -> None:
    first, offered = await take(keys)
    assert (first.is_taken, first.job_ids) == (True, (offered,))
    second, _ = await take(keys)
    assert (second.is_taken, second.status, second.body_hash, second.job_ids) == (
        False,
        None,
        b"a",
        (offered,),
    )
    await keys.answered(ANN, status=201, answer=b"first")
    await keys.answered(ANN, status=200, answer=b"second")
    third, _ = await take(keys, body=b"b")
    assert (third.is_taken, third.status, third.answer, third.body_hash) == (False, 201, b"first", b"a")


async def test_keys_of_different_holders_never_meet(keys: IdempotencyKeys) -> None:
    holders = [ANN, KeyHolder("acme", 2, "k"), KeyHolder("globex", 1, "k"), KeyHolder("acme", 1, "K")]
    states = await asyncio.gather(*(take(keys, holder) for holder in holders))
    assert [state.is_taken for state, _ in states] == [True] * 4


async def test_of_many_at_once_one_takes_it(keys: IdempotencyKeys, ledger_database: Database) -> None:
    other = Pools(ledger_database.service_url)
    try:
        crowd = [keys, IdempotencyKeys(other)] * 20
        states = [state for state, _ in await asyncio.gather(*(take(one) for one in crowd))]
    finally:
        await other.close()
    assert sum(state.is_taken for state in states) == 1
    assert len({state.job_ids for state in states}) == 1


async def test_a_try_that_was_not_answered_is_taken_over_by_its_like_with_its_ids(
    keys: IdempotencyKeys, ledger_database: Database
) -> None:
    _, offered = await take(keys)
    await age(ledger_database, "tried_at", "7 seconds")
    stranger, _ = await take(keys, body=b"b")
    assert stranger.is_taken is False
    heir, _ = await take(keys)
    assert (heir.is_taken, heir.job_ids) == (True, (offered,))


async def test_an_answered_key_is_not_taken_over(keys: IdempotencyKeys, ledger_database: Database) -> None:
    await take(keys)
    await keys.answered(ANN, status=201, answer=b"x")
    await age(ledger_database, "tried_at", "1 hour")
    assert (await take(keys))[0].is_taken is False


async def test_after_a_day_the_key_is_new(keys: IdempotencyKeys, ledger_database: Database) -> None:
    await take(keys)
    await keys.answered(ANN, status=201, answer=b"x")
    await age(ledger_database, "created_at", "25 hours")
    again, offered = await take(keys, body=b"b")
    assert (again.is_taken, again.job_ids, again.body_hash) == (True, (offered,), b"b")


async def test_old_keys_are_swept_by_and_by(keys: IdempotencyKeys, ledger_database: Database) -> None:
    await take(keys)
    await age(ledger_database, "created_at", "3 days")
    await take(keys, KeyHolder("acme", 1, "another"))
    assert await value(ledger_database.owner_url, "SELECT count(*) FROM ferryman.idempotency_keys") == 1


async def test_a_freed_key_may_be_used_again_but_not_from_under_an_heir(
    keys: IdempotencyKeys, ledger_database: Database
) -> None:
    first, _ = await take(keys)
    await keys.free(ANN, tried_at=first.tried_at)
    second, offered = await take(keys, body=b"b")
    assert (second.is_taken, second.job_ids) == (True, (offered,))
    await age(ledger_database, "tried_at", "7 seconds")
    heir, _ = await take(keys, body=b"b")
    await keys.free(ANN, tried_at=second.tried_at)
    assert (await take(keys, body=b"b"))[0].job_ids == heir.job_ids


async def test_an_answered_key_is_not_freed(keys: IdempotencyKeys) -> None:
    first, _ = await take(keys)
    await keys.answered(ANN, status=201, answer=b"x")
    await keys.free(ANN, tried_at=first.tried_at)
    assert (await take(keys))[0].answer == b"x"
