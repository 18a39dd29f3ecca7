"""What handlers leave behind, kept within bounds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ferryman import BusinessError, ValidationError
from ferryman.core.failures import ErrorClass
from ferryman.worker.results import MAX_RESULT_BYTES, checked, document_of, failure_of


@pytest.mark.parametrize(
    ("result", "document"),
    [
        (None, b"{}"),
        ({"a": 1}, b'{"a":1}'),
        ([1, 2], b'{"result":[1,2]}'),
        ("text", b'{"result":"text"}'),
        (0, b'{"result":0}'),
    ],
)
def test_a_result_becomes_an_object(result: object, document: bytes) -> None:
    assert document_of(result) == document


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (object(), "cannot be kept as JSON"),
        ({"a": "\x00"}, "at a: it takes no text with the character U"),
        ({"a": "\ud800"}, "cannot be kept as JSON"),
        ({"n": 2**70}, "at n: it takes integers of 64 bits"),
        ({"n": msgspec.Raw(b"1e100000")}, "at n: it takes numbers within"),
        ({"d": deep(70)}, "64 levels"),
        (deep(100_000), "cannot be kept as JSON"),
        ("x" * MAX_RESULT_BYTES, "at most 262,144 are kept"),
        (msgspec.Raw(b"{oops"), "takes JSON"),
    ],
)
def test_a_result_that_cannot_be_stored_is_explained(result: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        document_of(result)


def test_what_is_too_large_says_what_it_is() -> None:
    with pytest.raises(ValidationError, match="the cursor is 12 bytes of JSON; at most 10"):
        checked("the cursor", "x" * 10, 10)


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_that_cannot_be_looked_at_is_a_failure_like_any_other() -> None:
    failure = failure_of(UnreadableError())
    assert failure.error_class is ErrorClass.TRANSIENT
    assert "UnreadableError" in failure.message


def test_details_that_cannot_be_stored_become_their_text() -> None:
    failure = failure_of(BusinessError("no stock", details={"item": object()}))
    assert failure.error_class is ErrorClass.BUSINESS
    assert failure.message == "no stock"
    assert "object object" in str(failure.details["unreadable"])


def test_details_that_can_be_stored_stay() -> None:
    assert failure_of(BusinessError("no", details={"item": 5})).details["given"] == {"item": 5}
