"""What the API bears, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds. `calls_per_second` of one user, 0 for any number, and `call_burst` at
    once; `trusted_proxies` are those whose word on the caller's address counts; `webhooks_allow_private`:
    endpoints may be at internal addresses and take plain HTTP; `events_origins`: whose pages may read events.
    """

    max_body_bytes: int = 1_048_576
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    keepalive_seconds: float = 75.0
    readiness_seconds: float = 2.0
    calls_per_second: float = 0.0
    call_burst: int = 0
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    webhooks_allow_private: bool = False
    events_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """Which build answers, what people call its installation, and where that keeps traces and logs: addresses
    in which `{traceId}`, `{correlationId}` and `{jobId}` stand for ids.
    """

    version: str
    environment_name: str = ""
    trace_link: str | None = None
    logs_link: str | None = None
