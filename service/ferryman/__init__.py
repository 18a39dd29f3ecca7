"""Ferryman: an enterprise job pipeline. What handlers need comes from here, imported when it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ferryman.client import Client
    from ferryman.core.failures import (
        BusinessError,
        PermanentError,
        PlatformError,
        RetryAfter,
        Snooze,
        TransientError,
        ValidationError,
    )
    from ferryman.worker.context import JobContext
    from ferryman.worker.registry import Registry

_HOMES: Final = {
    "BusinessError": "ferryman.core.failures",
    "Client": "ferryman.client",
    "JobContext": "ferryman.worker.context",
    "PermanentError": "ferryman.core.failures",
    "PlatformError": "ferryman.core.failures",
    "Registry": "ferryman.worker.registry",
    "RetryAfter": "ferryman.core.failures",
    "Snooze": "ferryman.core.failures",
    "TransientError": "ferryman.core.failures",
    "ValidationError": "ferryman.core.failures",
}

__all__ = [
    "BusinessError",
    "Client",
    "JobContext",
    "PermanentError",
    "PlatformError",
    "Registry",
    "RetryAfter",
    "Snooze",
    "TransientError",
    "ValidationError",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ferryman' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
