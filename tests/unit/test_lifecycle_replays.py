"""Idempotency keys: carried out once, and free again when nothing was stored."""

from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

import pytest

from ferryman.lifecycle.failures import KeyBusyError, KeyMismatchError
from ferryman.lifecycle.replays import Replays, Reply
from ferryman.ports import KeyState, LedgerUnavailableError, OutcomeUnknownError
from tests.support.fakes import AT, FakeLedger, asker

FIXED = uuid4()


def state(
    *, taken: bool, status: int | None = None, other_body: bool = False
) -> Callable[[bytes, Sequence[UUID]], KeyState]:
    def make(body_hash: bytes, offered: Sequence[UUID]) -> KeyState:
        return KeyState(
            is_taken=taken,
            job_ids=(FIXED,),
            tried_at=AT,
            body_hash=b"another" if other_body else body_hash,
            status=status,
            answer=None if status is None else b"first",
        )

    return make


async def once(ledger: FakeLedger, error: Exception | None = None) -> tuple[Reply, list[Sequence[UUID]]]:
    used: list[Sequence[UUID]] = []

    async def carry_out(job_ids: Sequence[UUID]) -> Reply:
        used.append(job_ids)
        if error is not None:
            raise error
        return Reply(201, b"fresh")

    reply = await Replays(ledger.as_port()).once(asker(), "key", b"request", [uuid4()], carry_out)
    return reply, used


async def test_the_first_try_is_carried_out_with_the_ids_of_the_key_and_remembered() -> None:
    ledger = FakeLedger(key_state=state(taken=True))
    reply, used = await once(ledger)
    assert (reply, used) == (Reply(201, b"fresh"), [(FIXED,)])
    assert ledger.answers == [(201, b"fresh")]


async def test_the_first_answer_is_given_again() -> None:
    reply, used = await once(FakeLedger(key_state=state(taken=False, status=201)))
    assert (reply, used) == (Reply(201, b"first", is_replay=True), [])


async def test_another_request_under_the_key_is_refused() -> None:
    with pytest.raises(KeyMismatchError):
        await once(FakeLedger(key_state=state(taken=False, status=201, other_body=True)))


async def test_a_twin_in_flight_is_refused() -> None:
    with pytest.raises(KeyBusyError):
        await once(FakeLedger(key_state=state(taken=False)))


async def test_a_try_that_stored_nothing_frees_the_key() -> None:
    ledger = FakeLedger(key_state=state(taken=True))
    with pytest.raises(LedgerUnavailableError):
        await once(ledger, LedgerUnavailableError("away"))
    assert [holder.key for holder in ledger.freed] == ["key"]


async def test_a_try_in_doubt_keeps_the_key_with_its_ids() -> None:
    ledger = FakeLedger(key_state=state(taken=True))
    with pytest.raises(OutcomeUnknownError):
        await once(ledger, OutcomeUnknownError([FIXED]))
    assert ledger.freed == []
