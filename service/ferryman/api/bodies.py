"""Bodies and queries: checked, decoded, and refused with every bad field named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, get_args

import msgspec
from msgspec import inspect
from multidict import MultiMapping

from ferryman.api.fields import field_errors, first_error, got, takes
from ferryman.api.problems import FieldError, Problem, invalid
from ferryman.core.documents import DocumentError, check, format_path

T = TypeVar("T")

_METADATA: Final = "metadata."
_NO_NUL: Final = "takes no text with the character U+0000"


class BodyReader:
    """Reads bodies of one shape. `envelope` is how many levels are around what is kept of it."""

    def __init__(self, kind: type[Any], *, envelope: int = 1) -> None:
        self.kind = kind
        self._levels = 64 + envelope
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)

    def read(self, raw: bytes) -> Any:
        """The body. Raises Problem."""
        document = check_document(raw, levels=self._levels)
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise invalid(*(field_errors(document, self.kind) or [first_error(error)])) from None


class SettingsReader(BodyReader):
    """Reads bodies whose shape has no room for null: there, null means that the field is left out."""

    def read(self, raw: bytes) -> Any:
        document = _without_nulls(check_document(raw))
        try:
            return msgspec.convert(document, self.kind)
        except msgspec.ValidationError as error:
            raise invalid(*(field_errors(document, self.kind) or [first_error(error)])) from None


def check_document(raw: bytes, *, levels: int = 64) -> object:
    """The decoded JSON of a body. Raises Problem."""
    try:
        return check(raw, levels=levels)
    except DocumentError as error:
        if error.path:
            raise invalid(FieldError(format_path(error.path), str(error))) from None
        raise Problem("invalid_json", f"the body {error}") from None


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


class QueryReader:
    """Reads query parameters of one shape: lists may be given several times, anything else once."""

    def __init__(self, kind: type[Any]) -> None:
        self.kind = kind
        fields = inspect.type_info(kind)
        assert isinstance(fields, inspect.StructType)
        self._fields = {field.encode_name: field for field in fields.fields}
        self.types = {f.encode_name: f.type for f in msgspec.structs.fields(kind)}
        self._takes_metadata = "metadata" in self._fields
        self.nothing = kind()

    def read(self, query: MultiMapping[str]) -> Any:
        """The parameters. Raises Problem."""
        given: dict[str, object] = {}
        errors: list[FieldError] = []
        metadata: dict[str, str] = {}
        for name in dict.fromkeys(query):
            values = query.getall(name)
            if self._takes_metadata and name.startswith(_METADATA) and len(name) > len(_METADATA):
                metadata[name.removeprefix(_METADATA)] = values[0]
            elif name not in self._fields or name == "metadata":
                errors.append(FieldError(name[:80], "is not a parameter of this call"))
                continue
            elif isinstance(self._fields[name].type, inspect.ListType):
                given[name] = values
            else:
                given[name] = values[0]
            if len(values) > 1 and not isinstance(given.get(name), list):
                errors.append(FieldError(name, f"may be given once; it came {len(values)} times"))
        if metadata:
            given["metadata"] = metadata
        return self._convert(given, errors)

    def _convert(self, given: Mapping[str, object], errors: list[FieldError]) -> Any:
        for name, value in given.items():
            errors.extend(self._faults(name, value))
        if errors:
            raise invalid(*errors)
        return msgspec.convert(given, self.kind, strict=False)

    def _faults(self, name: str, value: object) -> Iterator[FieldError]:
        info, kind = self._fields[name].type, self.types[name]
        if isinstance(value, dict):
            yield from (FieldError(f"{name}.{key}", _NO_NUL) for key, text in value.items() if "\x00" in text)
            yield from field_errors({name: value}, self.kind)
        elif isinstance(info, inspect.ListType):
            for item in value if isinstance(value, list) else ():
                yield from _fault(name, item, info.item_type, get_args(kind)[0])
        else:
            yield from _fault(name, value, info, kind)


def _fault(name: str, text: object, info: inspect.Type, kind: Any) -> Iterator[FieldError]:
    if "\x00" in str(text):
        yield FieldError(name, _NO_NUL)
        return
    try:
        # Not strict, the digits of a number would do for a time.
        msgspec.convert(text, kind, strict=_is_time(info))
    except msgspec.ValidationError:
        yield FieldError(name, f"takes {takes(info)}; got {got(text)}")


def _is_time(info: inspect.Type) -> bool:
    if isinstance(info, inspect.Metadata):
        return _is_time(info.type)
    kinds = info.types if isinstance(info, inspect.UnionType) else (info,)
    return any(isinstance(kind, inspect.DateTimeType) for kind in kinds)
