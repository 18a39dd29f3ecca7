"""The registry: which function runs which type of job."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping
from importlib import import_module
from typing import Any, Protocol, TypeVar

from ferryman.core.failures import RetryAfter, Snooze
from ferryman.core.job import Claimed
from ferryman.core.queues import HandlerSettings, is_type
from ferryman.core.verdict import Failed, Outcome, Snoozed
from ferryman.worker.binding import Binding, RegistrationError, bind
from ferryman.worker.context import JobContext
from ferryman.worker.results import failure_of
from ferryman.worker.threads import HandlerThreads

F = TypeVar("F", bound=Callable[..., Any])


class Handler(Protocol):
    """What the executor needs of whatever runs a type of job."""

    type: str
    settings: HandlerSettings

    def start(
        self, context: JobContext, claimed: Claimed, threads: HandlerThreads
    ) -> Coroutine[Any, Any, object]:
        """The handler at work on a job. Raises ValidationError when the input does not fit."""

    def judge(self, error: BaseException) -> Outcome:
        """What it means that the handler raised this."""

    async def after(self, claimed: Claimed) -> None:
        """Called once the end of the attempt is recorded, or was lost; only where `has_after`."""

    has_after: bool


class FunctionHandler:
    """A function of the application, registered under a type. Sync ones run in a thread."""

    has_after = False

    def __init__(self, job_type: str, function: Callable[..., Any], settings: HandlerSettings) -> None:
        self.type = job_type
        self.settings = settings
        self.function = function
        self.is_async = _is_async(function)
        self._binding: Binding = bind(job_type, function)

    def start(
        self, context: JobContext, claimed: Claimed, threads: HandlerThreads
    ) -> Coroutine[Any, Any, object]:
        """See Handler."""
        arguments = self._binding.arguments(claimed.input)
        if self.is_async:
            return self.function(context, **arguments)  # type: ignore[no-any-return]
        return threads.run(self.function, context, arguments)

    def judge(self, error: BaseException) -> Outcome:
        """See Handler."""
        if isinstance(error, Snooze):
            return Snoozed(error.delay_ms)
        if isinstance(error, RetryAfter):
            return Failed(failure_of(error), error.delay_ms)
        return Failed(failure_of(error))

    async def after(self, claimed: Claimed) -> None:
        """Nothing to do."""


class Registry:
    """The handlers of an application, by type of job."""

    def __init__(self) -> None:
        self._handlers: dict[str, FunctionHandler] = {}

    def handler(
        self,
        job_type: str,
        *,
        max_retries: int | None = None,
        retry_delay_ms: int | None = None,
        timeout_ms: int | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function for a type of job; the function itself stays as it is.

        It is called with a JobContext and the input's keys as keyword arguments. The settings hold where
        neither the submission nor the queue says otherwise. Raises RegistrationError.
        """
        settings = HandlerSettings(
            max_retries=_bounded("max_retries", max_retries, 0, 100),
            retry_delay_ms=_bounded("retry_delay_ms", retry_delay_ms, 0, 86_400_000),
            timeout_ms=_bounded("timeout_ms", timeout_ms, 1, 86_400_000),
        )
        if not isinstance(job_type, str):
            raise RegistrationError('handler takes the type of job first: @jobs.handler("chat")')

        def register(function: F) -> F:
            self._add(FunctionHandler(check_type(job_type), function, settings))
            return function

        return register

    def include(self, other: Registry) -> None:
        """Take over the handlers of another registry. Raises RegistrationError for a type that both have."""
        for handler in other._handlers.values():
            self._add(handler)

    def __getitem__(self, job_type: str) -> FunctionHandler:
        return self._handlers[job_type]

    def __contains__(self, job_type: object) -> bool:
        return job_type in self._handlers

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)

    @property
    def handlers(self) -> Mapping[str, FunctionHandler]:
        """Every handler by its type."""
        return dict(self._handlers)

    def _add(self, handler: FunctionHandler) -> None:
        if (known := self._handlers.get(handler.type)) is not None:
            raise RegistrationError(
                f"the type {handler.type!r} has a handler already: {known.function.__module__}."
                f"{known.function.__qualname__}"
            )
        self._handlers[handler.type] = handler


def check_type(job_type: str) -> str:
    """The type itself. Raises RegistrationError when jobs cannot have it."""
    if not is_type(job_type):
        raise RegistrationError(
            f"{job_type!r} cannot be a type of job: it takes 1 to 50 of A-Z a-z 0-9 . _ : -"
        )
    return job_type


def load_registry(place: str) -> Registry:
    """The registry of `package.module`, or of `package.module:name` where it has several.

    Raises RegistrationError when there is none, ImportError when the module cannot be imported.
    """
    module_name, _, name = place.partition(":")
    module = import_module(module_name)
    if name:
        found = getattr(module, name, None)
        if not isinstance(found, Registry):
            raise RegistrationError(f"{module_name} has no Registry {name!r}")
        return found
    registries = {id(v): v for v in vars(module).values() if isinstance(v, Registry)}
    if len(registries) != 1:
        count = "no Registry" if not registries else f"{len(registries)} registries; name one as module:name"
        raise RegistrationError(f"{module_name} has {count}")
    return next(iter(registries.values()))


def _is_async(function: Callable[..., Any]) -> bool:
    target = inspect.unwrap(function)
    if inspect.isasyncgenfunction(target) or inspect.isgeneratorfunction(target):
        raise RegistrationError(f"{target.__qualname__} is a generator; a handler returns its result")
    return inspect.iscoroutinefunction(function)


def _bounded(name: str, value: int | None, least: int, most: int) -> int | None:
    if value is not None and not (
        isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    ):
        raise RegistrationError(f"{name} takes {least} to {most}; got {value!r}")
    return value
