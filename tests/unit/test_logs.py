"""Logs: one event a line, all fields, no secret, no line or colour that somebody else wrote."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from ferryman.telemetry import logs

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ0ZW5hbnRfaWQiOiJhY21lIn0.c2lnbmF0dXJl"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(
    stream: io.StringIO, event: str, *, form: Literal["json", "text"] = "json", **extra: object
) -> str:
    logs.configure(form, "info", stream=stream, secrets=["correct horse battery"])
    logging.getLogger("ferryman.test").info(event, extra=extra)
    return stream.getvalue()


def test_event_becomes_one_json_line_with_its_fields(stream: io.StringIO) -> None:
    line = logged(stream, "attempt.settled", job_id="j1", attempt=2, tenant_id="acme", correlation_id="c1")
    event = json.loads(line)
    assert line.count("\n") == 1
    assert event.pop("at").endswith("Z")
    assert event == {
        "level": "info",
        "event": "attempt.settled",
        "logger": "ferryman.test",
        "job_id": "j1",
        "attempt": 2,
        "tenant_id": "acme",
        "correlation_id": "c1",
    }


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    ("field", "value", "secret"),
    [
        ("authorization", "Bearer abc", "abc"),
        ("jwt_secret", "abcdef", "abcdef"),
        ("headers", {"Cookie": "session=abc", "X": "y"}, "session=abc"),
        ("note", f"sent {JWT} along", JWT),
        ("note", "Authorization: Bearer abc.def-ghi", "abc.def-ghi"),
        ("url", "postgresql://ferryman:hunter2@db/app", "hunter2"),
        ("urls", ["redis://:hunter2@redis:6379/0"], "hunter2"),
        ("note", "the correct horse battery staple", "correct horse battery"),
    ],
)
def test_secrets_are_left_out(
    stream: io.StringIO, form: Literal["json", "text"], field: str, value: object, secret: str
) -> None:
    line = logged(stream, "x.y", form=form, **{field: value})
    assert secret not in line
    assert logs.REDACTED in line


@pytest.mark.parametrize("form", ["json", "text"])
def test_text_of_others_can_neither_forge_lines_nor_steer_the_terminal(
    stream: io.StringIO, form: Literal["json", "text"]
) -> None:
    evil = 'a\nfake\r\x1b[2J\x00\x9b1m\u2028\u202e\ud800"'
    line = logged(stream, "x.y", form=form, note=evil)
    assert line.count("\n") == 1
    assert line.rstrip("\n").isprintable()
    line.encode("utf-8")


def test_errors_come_with_their_traceback(stream: io.StringIO) -> None:
    logs.configure("text", "info", stream=stream)
    try:
        raise ValueError("postgresql://u:hunter2@db")
    except ValueError:
        logging.getLogger("ferryman.test").exception("x.failed")
    told = stream.getvalue()
    assert "error=ValueError" in told
    assert "    Traceback (most recent call last):" in told
    assert "hunter2" not in told


def test_numbers_stay_numbers_and_json_stays_json(stream: io.StringIO) -> None:
    event = json.loads(logged(stream, "x.y", tokens_left=3, rate=float("nan"), ok=True, ids=[1, 2]))
    assert event["rate"] == "nan"
    assert event["ok"] is True
    assert event["ids"] == [1, 2]


def test_form_follows_the_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        logs.configure(stream=Terminal())
        assert isinstance(root.handlers[0].formatter, logs.TextFormatter)
        logs.configure(stream=io.StringIO())
        assert isinstance(root.handlers[0].formatter, logs.JsonFormatter)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
