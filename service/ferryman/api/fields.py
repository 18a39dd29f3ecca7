"""Every bad field of a body by its path, with what it takes and what came.

msgspec decodes fast and stops at the first bad field. Only after it has refused a body does this module look
at all of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from ferryman.api.problems import FieldError
from ferryman.core.documents import Path, format_path

MAX_ERRORS: Final = 50
_ECHO_CHARS: Final = 40


def field_errors(document: object, kind: Any) -> list[FieldError]:
    """What keeps `document` from being a `kind`, at most MAX_ERRORS; empty when nothing was found."""
    found: list[FieldError] = []
    for path, message in _faults(document, _info(kind), ()):
        found.append(FieldError(format_path(path) or "(body)", message))
        if len(found) == MAX_ERRORS:
            break
    return found


def first_error(error: msgspec.ValidationError) -> FieldError:
    """msgspec's own word, for what only it has found."""
    message, _, where = str(error).partition(" - at `$")
    path = where.rstrip("`").removeprefix(".").replace("[...]", "")
    return FieldError(path or "(body)", message[:1].lower() + message[1:])


def got(value: object) -> str:
    """What came, short enough to be shown."""
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case str():
            short = value if len(value) <= _ECHO_CHARS else value[: _ECHO_CHARS - 1] + "…"
            return json.dumps(short, ensure_ascii=False)
        case _:
            text = json.dumps(value)
            return text if len(text) <= _ECHO_CHARS else text[: _ECHO_CHARS - 1] + "…"


@lru_cache
def _info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _faults(value: object, info: inspect.Type, path: Path) -> Iterator[tuple[Path, str]]:
    match bare := _bare(info):
        case inspect.UnionType():
            yield from _union_faults(value, bare, path)
        case inspect.StructType():
            yield from _struct_faults(value, bare, path)
        case inspect.ListType():
            yield from _list_faults(value, bare, path)
        case inspect.DictType():
            yield from _dict_faults(value, bare, path)
        case _:
            if not _fits(value, info):
                yield path, f"takes {takes(info)}; got {got(value)}"


def _struct_faults(value: object, info: inspect.StructType, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(value, dict):
        yield path, f"takes an object; got {got(value)}"
        return
    fields = {field.encode_name: field for field in info.fields}
    for name in value:
        if name not in fields:
            yield (*path, name[:_ECHO_CHARS]), "is not a field of this request"
    for name, field in fields.items():
        if value.get(name) is None:
            if field.required:
                yield (*path, name), f"is required: it takes {takes(field.type)}"
        else:
            yield from _faults(value[name], field.type, (*path, name))


def _list_faults(value: object, info: inspect.ListType, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(value, list) or not _in_length(value, info):
        yield path, f"takes {takes(info)}; got {got(value)}"
        return
    for index, item in enumerate(value):
        yield from _faults(item, info.item_type, (*path, index))


def _dict_faults(value: object, info: inspect.DictType, path: Path) -> Iterator[tuple[Path, str]]:
    if not isinstance(value, dict) or not _in_length(value, info):
        yield path, f"takes {takes(info)}; got {got(value)}"
        return
    for key, item in value.items():
        if not _fits(key, info.key_type):
            yield (*path, key[:_ECHO_CHARS]), f"takes a key of {takes(info.key_type)}"
        else:
            yield from _faults(item, info.value_type, (*path, key))


def _union_faults(value: object, info: inspect.UnionType, path: Path) -> Iterator[tuple[Path, str]]:
    kinds = _kinds(info)
    if len(kinds) == 1:
        yield from _faults(value, kinds[0], path)
    elif not any(next(_faults(value, kind, path), None) is None for kind in kinds):
        yield path, f"takes {takes(info)}; got {got(value)}"


def _kinds(info: inspect.UnionType) -> list[inspect.Type]:
    return [kind for kind in info.types if not isinstance(kind, inspect.NoneType)]


_CHECKS: Final[Mapping[type[inspect.Type], Callable[[Any, Any], bool]]] = {
    inspect.AnyType: lambda value, _: True,
    inspect.RawType: lambda value, _: True,
    inspect.BoolType: lambda value, _: isinstance(value, bool),
    inspect.IntType: lambda value, info: _is_integer(value) and _in_range(value, info),
    inspect.FloatType: lambda value, info: _is_number(value) and _in_range(value, info),
    inspect.StrType: lambda value, info: (
        isinstance(value, str)
        and _in_length(value, info)
        and (info.pattern is None or re.search(info.pattern, value) is not None)
    ),
    inspect.LiteralType: lambda value, info: value in info.values,
    inspect.EnumType: lambda value, info: value in [member.value for member in info.cls],
    inspect.DateTimeType: lambda value, _: _is_instant(value),
}


def _fits(value: object, info: inspect.Type) -> bool:
    bare = _bare(info)
    check = _CHECKS.get(type(bare))
    return check is None or check(value, bare)


def _bare(info: inspect.Type) -> inspect.Type:
    """Without what is only said about it."""
    return info.type if isinstance(info, inspect.Metadata) else info


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_instant(value: object) -> bool:
    try:
        return msgspec.convert(value, datetime).tzinfo is not None
    except msgspec.ValidationError:
        return False


def _in_range(value: float, info: inspect.IntType | inspect.FloatType) -> bool:
    return (
        (info.ge is None or value >= info.ge)
        and (info.gt is None or value > info.gt)
        and (info.le is None or value <= info.le)
        and (info.lt is None or value < info.lt)
    )


def _in_length(value: Any, info: Any) -> bool:
    return bool(
        len(value) >= (info.min_length or 0) and (info.max_length is None or len(value) <= info.max_length)
    )


def takes(info: inspect.Type) -> str:
    """What a field takes, in words."""
    match info:
        case inspect.Metadata():
            schema = info.extra_json_schema or {}
            return str(schema.get("description") or takes(info.type))
        case inspect.UnionType():
            return " or ".join(takes(kind) for kind in _kinds(info))
        case inspect.StrType():
            return _text(info)
        case inspect.IntType():
            return f"an integer{_range(info)}"
        case inspect.FloatType():
            return f"a number{_range(info)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.DateTimeType():
            return "an RFC 3339 time with its offset"
        case inspect.ListType():
            return f"a list{_lengths(info, 'items')}"
        case inspect.LiteralType():
            return f"one of {', '.join(str(value) for value in info.values)}"
        case inspect.EnumType():
            return f"one of {', '.join(str(member.value) for member in info.cls)}"
        case _:
            return f"an object{_lengths(info, 'keys')}"


def _text(info: inspect.StrType) -> str:
    if info.pattern is not None:
        return f"text that matches {info.pattern}"
    return f"text{_lengths(info, 'characters')}"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    if info.ge is not None and info.le is not None:
        return f" from {info.ge} to {info.le}"
    if info.gt is not None and info.le is not None:
        return f" above {info.gt} and up to {info.le}"
    return f" of at least {info.ge}" if info.ge is not None else ""


def _lengths(info: Any, unit: str) -> str:
    shortest, longest = getattr(info, "min_length", None), getattr(info, "max_length", None)
    if longest is None:
        return f" of at least {shortest} {unit}" if shortest else ""
    return f" of {shortest} to {longest} {unit}" if shortest else f" of at most {longest} {unit}"
