"""Positions and ids as the scripts take them."""

from __future__ import annotations

from uuid import uuid4

import msgspec
import pytest

from ferryman.core.job import Position
from ferryman.dispatch import keys, packing
from tests.support.dispatching import gone, running, waiting


def test_ids_survive_the_way_there_and_back() -> None:
    ids = [uuid4() for _ in range(3)]
    assert packing.split(packing.join(ids)) == ids
    assert packing.split(b"") == []


def test_chunks_are_what_a_call_may_take() -> None:
    assert [len(chunk) for chunk in packing.chunks(range(250))] == [100, 100, 50]
    assert list(packing.chunks([])) == []


def test_the_last_word_on_a_job_counts() -> None:
    first, other = waiting(priority=5), waiting("bolt", due_in_ms=9, retrying=True)
    ids, tokens, fields = packing.positions([first, other, gone(first)])
    assert packing.split(ids) == [first.id, other.id]
    assert tokens == b""
    kinds = msgspec.msgpack.decode(fields)
    assert kinds[0:2] == ["g", "acme"]
    assert kinds[5:9] == ["r", "bolt", other.score, 9]


def test_tokens_stand_in_the_order_of_the_running_jobs() -> None:
    one, two = uuid4(), uuid4()
    _, tokens, _ = packing.positions([running(waiting(), one), waiting(), running(waiting(), two)])
    assert packing.split(tokens) == [one, two]


def test_a_running_job_without_a_token_is_refused() -> None:
    bad = Position(id=uuid4(), queue="q", tenant_id="acme", kind="running", lease_ms=1)
    with pytest.raises(ValueError, match="token"):
        packing.positions([bad])


def test_all_keys_of_a_queue_share_a_hash_tag() -> None:
    assert {key("a.b-c").split("}")[0] for key in (keys.prefix, keys.wake, keys.meta, keys.count)} == {
        "fm:{a.b-c"
    }
    assert keys.queue_of_wake(keys.wake("a.b-c")) == "a.b-c"
