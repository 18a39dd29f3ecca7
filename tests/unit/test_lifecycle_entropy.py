"""Random bytes are handed out once."""

from ferryman.lifecycle.entropy import Entropy


def test_no_byte_is_handed_out_twice() -> None:
    entropy = Entropy()
    taken = [entropy.take(16) for _ in range(10_000)]
    assert {len(one) for one in taken} == {16}
    assert len(set(taken)) == 10_000


def test_pages_follow_each_other() -> None:
    entropy = Entropy()
    assert len(entropy.take(4_000)) == 4_000
    assert len(entropy.take(200)) == 200
