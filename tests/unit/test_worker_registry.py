"""Handlers: what can be registered, and how an input becomes their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest

from ferryman import JobContext, Registry, ValidationError
from ferryman.worker.binding import RegistrationError, bind
from ferryman.worker.registry import load_registry

if TYPE_CHECKING:
    from decimal import Decimal


class User(msgspec.Struct):
    name: str
    age: int = 0


@dataclass
class Point:
    x: float
    y: float


class Own:
    """Nothing that JSON could become."""


async def simple(ctx: JobContext, message: str, count: int = 3) -> None: ...


async def typed(
    ctx: JobContext,
    user: User,
    at: datetime,
    point: Point,
    kind: Literal["a", "b"],
    items: list[int],
    own: Own | None = None,
) -> None: ...


async def open_ended(ctx: JobContext, first: int, **rest: Any) -> None: ...


def arguments(function: Any, document: object) -> dict[str, Any]:
    return bind("t", function).arguments(msgspec.json.encode(document))


def problem(function: Any, document: object) -> str:
    with pytest.raises(ValidationError) as caught:
        arguments(function, document)
    return str(caught.value)


def test_keys_become_keyword_arguments_and_defaults_stay_the_functions_own() -> None:
    assert arguments(simple, {"message": "hi"}) == {"message": "hi"}
    assert arguments(simple, {"message": "hi", "count": 4}) == {"message": "hi", "count": 4}


def test_missing_and_extra_keys_are_named_all_at_once() -> None:
    assert problem(simple, {"massage": 1, "z": 2}) == (
        "input.message is missing; input.massage is not known to the handler; "
        "input.z is not known to the handler"
    )
    assert problem(simple, []) == "input takes an object"


def test_values_are_converted_by_annotation() -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    given = arguments(
        typed,
        {"user": {"name": "Ada"}, "at": at, "point": {"x": 1, "y": 2}, "kind": "b", "items": [1, 2]},
    )
    assert given == {
        "user": User("Ada"),
        "at": at,
        "point": Point(1.0, 2.0),
        "kind": "b",
        "items": [1, 2],
    }


def test_a_misfit_is_named_with_its_path() -> None:
    fits = {"user": {"name": "Ada"}, "at": "2026-01-02T03:04:05Z", "point": {"x": 1, "y": 2}, "kind": "a"}
    assert problem(typed, {**fits, "items": [1, "2"]}) == "input.items[1]: expected `int`, got `str`"
    assert problem(typed, {**fits, "items": [], "user": {"name": 5}}) == (
        "input.user.name: expected `str`, got `int`"
    )
    assert problem(typed, {**fits, "items": [], "kind": "c"}).startswith("input.kind: invalid enum value")


def test_what_json_cannot_become_is_handed_on_as_it_is() -> None:
    fits = {"user": {"name": "Ada"}, "at": "2026-01-02T03:04:05Z", "point": {"x": 1, "y": 2}, "kind": "a"}
    assert arguments(typed, {**fits, "items": [], "own": {"any": "thing"}})["own"] == {"any": "thing"}


def test_rest_takes_what_is_left() -> None:
    assert arguments(open_ended, {"first": 1, "b": [2], "not an identifier": 3}) == {
        "first": 1,
        "b": [2],
        "not an identifier": 3,
    }
    assert problem(open_ended, {"first": "1"}) == "input.first: expected `int`, got `str`"


def test_null_for_a_parameter_with_a_default_must_be_allowed_by_its_annotation() -> None:
    assert problem(simple, {"message": "m", "count": None}) == "input.count: expected `int`, got `null`"


async def by_position(ctx: JobContext, a: int, /) -> None: ...
async def starred(ctx: JobContext, *a: int) -> None: ...
async def without_context() -> None: ...
async def wrong_first(message: str) -> None: ...
async def unresolvable(ctx: JobContext, price: Decimal) -> None: ...
async def generating(ctx: JobContext) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (by_position, "by position"),
        (starred, "by position"),
        (without_context, "takes the context as its first parameter"),
        (wrong_first, "'message'"),
        (unresolvable, "outside of TYPE_CHECKING"),
        (generating, "is a generator"),
    ],
)
def test_a_function_that_cannot_be_a_handler_is_refused_at_once(function: Any, says: str) -> None:
    with pytest.raises(RegistrationError, match=says):
        Registry().handler("t")(function)


@pytest.mark.parametrize("name", ["", "with space", "ü", "x" * 51, "a/b"])
def test_a_bad_type_is_refused(name: str) -> None:
    with pytest.raises(RegistrationError, match="cannot be a type of job"):
        Registry().handler(name)(simple)


def test_a_type_has_one_handler() -> None:
    registry = Registry()
    registry.handler("t")(simple)
    with pytest.raises(RegistrationError, match=r"has a handler already: .*simple"):
        registry.handler("t")(typed)
    other = Registry()
    other.handler("t")(typed)
    with pytest.raises(RegistrationError):
        registry.include(other)


@pytest.mark.parametrize("settings", [{"max_retries": -1}, {"retry_delay_ms": 10**9}, {"timeout_ms": 0}])
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError, match=next(iter(settings))):
        Registry().handler("t", **settings)


def test_a_forgotten_type_is_explained() -> None:
    with pytest.raises(RegistrationError, match="the type of job first"):
        Registry().handler(simple)  # type: ignore[arg-type]


def test_the_decorated_function_stays_as_it_is() -> None:
    registry = Registry()
    assert registry.handler("t", max_retries=2)(simple) is simple
    assert list(registry) == ["t"]
    assert registry["t"].settings.max_retries == 2


def test_a_registry_is_found_in_its_module() -> None:
    assert "chat" in load_registry("ferryman.worker.demo_handlers")
    assert "chat" in load_registry("ferryman.worker.demo_handlers:jobs")
    with pytest.raises(RegistrationError, match="has no Registry"):
        load_registry("ferryman.worker.pulse")
    with pytest.raises(RegistrationError, match="has no Registry 'nothing'"):
        load_registry("ferryman.worker.demo_handlers:nothing")
    with pytest.raises(ModuleNotFoundError):
        load_registry("ferryman.nowhere")
