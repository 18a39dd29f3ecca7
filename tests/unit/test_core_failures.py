import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.failures import (
    BusinessError,
    ErrorClass,
    PermanentError,
    PlatformError,
    TransientError,
    ValidationError,
    classify,
    sanitise,
)


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (TransientError("x"), "TRANSIENT"),
        (ConnectionResetError("x"), "TRANSIENT"),
        (KeyError("x"), "TRANSIENT"),
        (TimeoutError(), "TIMEOUT"),
        (MemoryError(), "SYSTEM"),
        (SystemError("x"), "SYSTEM"),
        (PlatformError("x"), "SYSTEM"),
        (PermanentError("x"), "PERMANENT"),
        (ValidationError("x"), "VALIDATION"),
        (BusinessError("x"), "BUSINESS"),
    ],
)
def test_classes(error: Exception, error_class: str) -> None:
    assert classify(error).error_class == ErrorClass(error_class)


def test_an_error_without_words_is_named_by_its_kind() -> None:
    assert classify(KeyboardInterrupt()).message == "KeyboardInterrupt"


def test_details_given_by_the_handler_are_kept() -> None:
    failure = classify(PermanentError("no", details={"order": 7}))
    assert failure.details == {"exception": "PermanentError", "given": {"order": 7}}


def test_an_unknown_error_brings_its_traceback() -> None:
    with pytest.raises(ValueError, match="boom") as caught:
        raise ValueError("boom")
    assert "test_core_failures" in str(classify(caught.value).details["traceback"])


def test_one_cause_has_one_fingerprint_whatever_its_ids() -> None:
    first = classify(OSError("order 17 at 0xdeadbeef of 01a20f99-4aeb-7af4-acfd-4682e613a5eb"))
    second = classify(OSError("order 4711 at 0xCAFE of 019b76da-a800-713b-ae5c-dc0131871995"))
    assert first.fingerprint == second.fingerprint
    assert classify(OSError("disk full")).fingerprint != first.fingerprint
    assert len(first.fingerprint) == 16


@given(st.text(), st.integers(1, 50))
def test_sanitised_text_can_be_stored_and_is_bounded(text: str, limit: int) -> None:
    clean = sanitise(text + "\ud800\x00", limit)
    assert "\x00" not in clean
    assert clean.encode("utf-8")
    assert len(clean) <= limit
