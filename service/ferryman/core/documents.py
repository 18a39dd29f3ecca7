"""The guard on JSON that comes from outside: what PostgreSQL, Redis and every later reader can take back.

A document is UTF-8, nested at most 64 deep, with numbers within ±1e308 and integers of 64 bits, without
U+0000, without half a surrogate pair and without a key given twice. Innocent documents pass at the speed of
msgspec; only suspicion starts the slow and exact look.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import msgspec

MAX_DEPTH: Final = 64
MAX_NUMBER: Final = 1e308
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**63 - 1
_INTEGER_DIGITS: Final = 20
_MAX_EXPONENT: Final = 324  # the smallest double is 5e-324; what is written smaller only costs room

# Digits become 0, so that a plain substring finds what a pattern would.
_LEVEL: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_RUN: Final = b"0" * 19

Path = tuple[str | int, ...]


class DocumentError(Exception):
    """The document cannot be taken. `path` leads to the value, empty for the document as a whole."""

    def __init__(self, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.path = path


def check(raw: bytes, *, levels: int = MAX_DEPTH) -> object:
    """The decoded document, once it has passed. Raises DocumentError.

    `levels` is how deep it may be nested: more than MAX_DEPTH where an envelope is around what is kept.
    """
    try:
        raw.decode("utf-8")
        document = _DECODER.decode(raw)
        if not _is_suspicious(raw, document, levels):
            return document
    except UnicodeDecodeError as error:
        raise DocumentError(f"takes UTF-8; byte {error.start} is not") from None
    except RecursionError:
        raise _too_deep() from None
    except msgspec.ValidationError:
        pass  # a number out of range: the exact look finds out which
    except msgspec.DecodeError as error:
        if b"\\u" in raw:
            _look_closely(raw, levels)  # half a surrogate pair is named with its place
        raise DocumentError(f"takes JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    return _look_closely(raw, levels)


def format_path(path: Path) -> str:
    """`("jobs", 3, "input", "name")` as `jobs[3].input.name`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _is_suspicious(raw: bytes, document: object, levels: int) -> bool:
    """Whether the exact look is due. Written again, a document has lost the keys that were given twice, and
    with each of them a colon.
    """
    return (
        raw.count(b":") != _ENCODER.encode(document).count(b":")
        or b"\\u0000" in raw
        or b"\\u003" in raw  # an escaped colon would make up for a lost one
        or _LONG_RUN in raw.translate(_LEVEL)
        or (raw.count(b"{") + raw.count(b"[") > levels and not _is_shallow(document, levels))
    )


def _is_shallow(document: object, levels: int) -> bool:
    containers = [document] if isinstance(document, dict | list) else []
    for _ in range(levels):
        containers = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not containers:
            return True
    return False


def _too_deep(path: Path = ()) -> DocumentError:
    return DocumentError(f"takes at most {MAX_DEPTH} levels of nesting", path)


class _Fault:
    """Stands in the decoded document where a value cannot be taken."""

    __slots__ = ("key", "message")

    def __init__(self, message: str, key: str | None = None) -> None:
        self.message = message
        self.key = key


def _look_closely(raw: bytes, levels: int) -> object:
    look = _Look()
    strict = json.JSONDecoder(
        object_pairs_hook=look.object,
        parse_int=look.integer,
        parse_float=look.number,
        parse_constant=look.constant,
    )
    try:
        document = strict.decode(raw.decode("utf-8"))
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise DocumentError(f"takes JSON: {error}") from None
    for path, message in _faults(document, levels):
        raise DocumentError(message, path)
    return document


class _Look:
    """Decodes with a fault in the place of the first value that cannot be taken. What comes after it does not
    matter any more, and costs nothing: a million bad values must not cost a million messages.
    """

    def __init__(self) -> None:
        self._found = False

    def integer(self, digits: str) -> object:
        if self._found:
            return 0
        if len(digits) <= _INTEGER_DIGITS and _MIN_INTEGER <= (value := int(digits)) <= _MAX_INTEGER:
            return value
        return self._fault(f"takes integers of 64 bits; got {_short(digits)}")

    def number(self, digits: str) -> object:
        if self._found:
            return 0.0
        if (value := _float(digits)) is not None:
            return value
        return self._fault(f"takes numbers within ±1e308; got {_short(digits)}")

    def constant(self, name: str) -> object:
        return None if self._found else self._fault(f"takes JSON, which has no {name}")

    def object(self, pairs: list[tuple[str, object]]) -> object:
        members = dict(pairs)
        if self._found or len(members) == len(pairs):
            return members
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return self._fault("is given twice", twice)

    def _fault(self, message: str, key: str | None = None) -> _Fault:
        self._found = True
        return _Fault(message, key)


def _float(digits: str) -> float | None:
    """The number, or None when it is too large, or so small that writing it out costs thousands of digits."""
    exponent = digits.lower().partition("e")[2].lstrip("+-0") or "0"
    value = float(digits)
    fits = -MAX_NUMBER <= value <= MAX_NUMBER and len(exponent) <= 3 and int(exponent) <= _MAX_EXPONENT
    return value if fits else None


def _float_or_error(digits: str) -> float:
    if (value := _float(digits)) is None:
        raise ValueError(digits[:40])
    return value


_DECODER: Final = msgspec.json.Decoder(float_hook=_float_or_error)
_ENCODER: Final = msgspec.json.Encoder()


def _faults(document: object, levels: int) -> Iterator[tuple[Path, str]]:
    """What cannot be taken, and where. Walks without recursion, so depth cannot exhaust the stack."""
    walks: list[Iterator[tuple[Path, object]]] = [iter([((), document)])]
    while walks:
        if (step := next(walks[-1], None)) is None:
            walks.pop()
            continue
        path, value = step
        if isinstance(value, _Fault):
            yield (path if value.key is None else (*path, _short(value.key))), value.message
        elif isinstance(value, str):
            if (problem := _problem_of(value)) is not None:
                yield path, problem
        elif isinstance(value, dict | list):
            if len(path) >= levels:
                yield path[:8], f"takes at most {MAX_DEPTH} levels of nesting"
            else:
                yield from _faults_of_keys(path, value)
                walks.append(_members(path, value))


def _faults_of_keys(path: Path, value: dict[str, object] | list[object]) -> Iterator[tuple[Path, str]]:
    for key in value if isinstance(value, dict) else ():
        if (problem := _problem_of(key)) is not None:
            yield path, f"has a key that cannot be taken: it {problem}"


def _members(path: Path, value: dict[str, object] | list[object]) -> Iterator[tuple[Path, object]]:
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for step, item in members:
        yield (*path, step), item


def _problem_of(text: str) -> str | None:
    if "\x00" in text:
        return "takes no text with the character U+0000"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "takes no text with half a surrogate pair"
    return None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
