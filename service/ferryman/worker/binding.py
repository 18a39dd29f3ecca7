"""From a job's input document to a handler's keyword arguments: worked out once, when it is registered."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from ferryman.core.failures import ValidationError

_KEYWORD: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MAX_NAMED: Final = 10


class RegistrationError(Exception):
    """A handler cannot be registered as it stands; the message says what to change."""


class Binding:
    """How the keys of an input become keyword arguments of one function."""

    __slots__ = ("_decoder", "_optional", "_required", "_rest", "_struct")

    def __init__(self, job_type: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]):
        named = [p for p in parameters.values() if p.kind in _KEYWORD]
        self._rest = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
        self._required = tuple(p.name for p in named if p.default is p.empty)
        self._optional = tuple(p.name for p in named if p.default is not p.empty)
        self._struct = _struct_of(job_type, named, hints, closed=not self._rest)
        self._decoder = msgspec.json.Decoder(self._struct)

    def arguments(self, document: bytes) -> dict[str, Any]:
        """The keyword arguments for an input. Raises ValidationError naming what does not fit."""
        try:
            given = self._decoder.decode(document)
        except msgspec.ValidationError as error:
            raise self._explained(document, error) from None
        arguments = {name: getattr(given, name) for name in self._required}
        for name in self._optional:
            if (value := getattr(given, name)) is not msgspec.UNSET:
                arguments[name] = value
        if self._rest:
            known = self._struct.__struct_fields__
            everything: dict[str, Any] = msgspec.json.decode(document)
            arguments.update((key, value) for key, value in everything.items() if key not in known)
        return arguments

    def _explained(self, document: bytes, error: msgspec.ValidationError) -> ValidationError:
        """The decoder stops at the first misfit; whoever sent the job wants all the keys at once."""
        given = msgspec.json.decode(document)
        if not isinstance(given, dict):
            return ValidationError("input takes an object")
        missing = [name for name in self._required if name not in given]
        extra = [] if self._rest else [key for key in given if key not in self._struct.__struct_fields__]
        problems = [f"input.{name} is missing" for name in missing]
        problems += [f"input.{key} is not known to the handler" for key in extra[:_MAX_NAMED]]
        return ValidationError("; ".join(problems) if problems else _located(str(error)))


def bind(job_type: str, function: Callable[..., object]) -> Binding:
    """The binding of a handler. Raises RegistrationError."""
    try:
        parameters = dict(_signature(function).parameters)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"the handler of {job_type!r} has no readable signature: {error}") from error
    _drop_context(job_type, parameters)
    for parameter in parameters.values():
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
            raise RegistrationError(
                f"the handler of {job_type!r} takes {parameter} by position; "
                "the keys of the input are given by keyword"
            )
    return Binding(job_type, parameters, _hints(job_type, function, parameters))


def _signature(function: Callable[..., object]) -> inspect.Signature:
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _drop_context(job_type: str, parameters: dict[str, inspect.Parameter]) -> None:
    first = next(iter(parameters.values()), None)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if first is None or first.kind not in positional:
        raise RegistrationError(
            f"the handler of {job_type!r} takes the context as its first parameter: "
            "def handler(ctx: JobContext, …)"
        )
    if first.name != "ctx" and "JobContext" not in str(first.annotation):
        raise RegistrationError(
            f"the first parameter of the handler of {job_type!r} is {first.name!r}; it is given the context, "
            "so call it ctx or annotate it with JobContext"
        )
    del parameters[first.name]


def _hints(
    job_type: str, function: Callable[..., object], parameters: Mapping[str, inspect.Parameter]
) -> dict[str, Any]:
    wanted = {
        name: p.annotation
        for name, p in parameters.items()
        if p.kind in _KEYWORD and p.annotation is not p.empty
    }
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(
            SimpleNamespace(__annotations__=wanted), globalns=namespace, include_extras=True
        )
    except NameError as error:
        raise RegistrationError(
            f"an annotation of the handler of {job_type!r} cannot be resolved ({error}); "
            "define the type in its module, outside of TYPE_CHECKING"
        ) from error


def _struct_of(
    job_type: str, named: list[inspect.Parameter], hints: Mapping[str, Any], *, closed: bool
) -> type[msgspec.Struct]:
    fields: list[Any] = []
    for parameter in named:
        hint = hints.get(parameter.name, Any)
        kind = hint if _is_supported(hint) else Any
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append(
                (parameter.name, kind | msgspec.UnsetType if kind is not Any else Any, msgspec.UNSET)
            )
    return msgspec.defstruct(f"Input of {job_type}", fields, kw_only=True, forbid_unknown_fields=closed)


def _is_supported(hint: object) -> bool:
    """Whether msgspec can make a value of this kind out of JSON; what it cannot is handed on as it is."""
    try:
        return _is_convertible(msgspec.inspect.type_info(hint))
    except TypeError:
        return False


def _is_convertible(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return all(_is_convertible(member) for member in kind.types)
    return not isinstance(kind, msgspec.inspect.CustomType)


def _located(message: str) -> str:
    """msgspec's `Expected …, got … - at `$.user.name`` as `input.user.name: expected …, got …`."""
    text, _, path = message.partition(" - at `$")
    place = f"input{path.removesuffix('`')}"
    return f"{place}: {text[:1].lower()}{text[1:]}"
