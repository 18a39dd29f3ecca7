"""Logs: one event a line, JSON for machines and text for a terminal, without secrets.

The message of a record is the event's name (`telemetry.names`); what belongs to it goes as `extra`, among it
`job_id`, `attempt`, `tenant_id`, `queue` and `correlation_id`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Final, Literal, TextIO

from ferryman.core.failures import MAX_TRACEBACK_CHARS

REDACTED: Final = "[redacted]"

_MAX_TEXT_CHARS: Final = 10_000
_PLAIN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME: Final = re.compile(
    r"authorization|cookie|passw|secret|token|credential|api_?key|private_?key|jwt", re.IGNORECASE
)
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?")
_URL_PASSWORD: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/@:]*:)[^\s/@]+@")
_BEARER: Final = re.compile(r"\b(Bearer\s+)[A-Za-z0-9._~+/=-]+", re.IGNORECASE)
# Control characters, line separators and marks that turn the direction of text: they forge lines or move the
# cursor of whoever reads the log.
_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def configure(
    form: Literal["json", "text"] | None = None,
    level: str = "info",
    *,
    stream: TextIO | None = None,
    secrets: Sequence[str] = (),
) -> None:
    """Let this process log to `stream` (stderr), as text on a terminal and as JSON elsewhere unless told.

    `secrets` are values that must never appear, whatever the field they would hide in.
    """
    target = stream or sys.stderr
    chosen = form or ("text" if target.isatty() else "json")
    handler = logging.StreamHandler(target)
    handler.setFormatter((JsonFormatter if chosen == "json" else TextFormatter)(secrets))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(logging.ERROR)


class _EventFormatter(logging.Formatter):
    """Turns a record into clean fields; the two forms only differ in how they write them."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secret for secret in secrets if len(secret) >= 8)

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """Everything the record says beside time, level and event."""
        given = {
            name: self._clean(name, value)
            for name, value in vars(record).items()
            if name not in _PLAIN_FIELDS and value is not None
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            given["error"] = self._clean("error", f"{type(error).__name__}: {error}")
            trace = self.formatException(record.exc_info)
            given["traceback"] = self._clean("traceback", trace[-MAX_TRACEBACK_CHARS:])
        return given

    def text(self, value: str) -> str:
        """`value` without secrets, cut to a sane length, harmless to a terminal."""
        for secret in self._secrets:
            value = value.replace(secret, REDACTED)
        value = _URL_PASSWORD.sub(rf"\1{REDACTED}@", value)
        value = _BEARER.sub(rf"\1{REDACTED}", _JWT.sub(REDACTED, value))
        cut = value if len(value) <= _MAX_TEXT_CHARS else value[:_MAX_TEXT_CHARS] + "…"
        return printable(cut)

    def _clean(self, name: str, value: object) -> object:
        if _SECRET_NAME.search(name):
            return REDACTED
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self._clean(str(key), item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._clean(name, item) for item in value]
        return self.text(str(value))


class JsonFormatter(_EventFormatter):
    """One JSON object a line: `at`, `level`, `event`, `logger`, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _instant(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": self.text(record.getMessage()),
            "logger": record.name,
            **self.fields(record),
        }
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(_EventFormatter):
    """For people: local time, level, event, then `name=value`; a traceback is indented below."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(self._lines(record))

    def _lines(self, record: logging.LogRecord) -> Iterator[str]:
        fields = self.fields(record)
        trace = str(fields.pop("traceback", ""))
        at = _instant(record).astimezone().strftime("%H:%M:%S.%f")[:-3]
        pairs = "  ".join(f"{name}={value}" for name, value in fields.items())
        yield f"{at} {record.levelname.lower():<7} {self.text(record.getMessage())}  {pairs}".rstrip()
        yield from (f"    {line}" for line in trace.split("\\n") if line)


def printable(text: str) -> str:
    """`text` with each character that could steer a terminal made visible: `\\n`, `\\x1b`, `\\u2028`."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def _instant(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)
