"""Every FERRYMAN_* variable: its name, what it takes, and how its text is read."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from ferryman import failpoints

T_co = TypeVar("T_co", covariant=True)

LogFormat = Literal["json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MIN_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Variable(Generic[T_co]):
    """One variable. `read` raises ValueError; its message, if any, says what is wrong without the value."""

    name: str
    takes: str
    read: Callable[[str], T_co]
    secret: bool = False
    hint: str = ""


def _whole(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
            raise ValueError
        return int(text)

    return read


def _number(lowest: float, highest: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or not lowest <= float(text) <= highest:
            raise ValueError
        return float(text)

    return read


def _url(*schemes: str, host: bool = True) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            parts = urlsplit(text)
            # Several hosts (PostgreSQL, sentinels) have a port each, which urlsplit does not understand.
            _ = parts.port if "," not in parts.netloc else None
        except ValueError:
            raise ValueError("this is no URL") from None
        if parts.scheme not in schemes:
            raise ValueError(f"it starts with {parts.scheme}://" if parts.scheme else "it has no scheme")
        if host and parts.scheme != "unix" and not parts.netloc.rpartition("@")[2]:
            raise ValueError("it names no host")
        return text

    return read


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/").lower() for part in text.split(",") if part.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?", origin):
            raise ValueError("an origin is a scheme, a host and perhaps a port")
    return origins


def _secret(text: str) -> str:
    if "-----BEGIN" in text or text.lstrip().startswith("{"):
        raise ValueError("this is a key of another kind; FERRYMAN_JWT_PUBLIC_KEY takes public keys")
    if len(text.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"it has {len(text.encode())} bytes")
    return text


def _public_key(text: str) -> str:
    if "-----BEGIN PUBLIC KEY-----" not in text and "-----BEGIN CERTIFICATE-----" not in text:
        raise ValueError("there is no -----BEGIN PUBLIC KEY----- in it")
    return text


def _jwks_url(text: str) -> str:
    """Keys that came over a line that others can write to would be anybody's."""
    parts = urlsplit(_url("https", "http")(text))
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("it holds a user, a password or a fragment")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError("http:// is for this machine alone")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _subjects(text: str) -> tuple[str, ...]:
    subjects = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"[A-Za-z0-9._:/@|-]{1,300}", subject) for subject in subjects):
        raise ValueError(
            "a subject is empty or holds other characters than letters, digits and . _ : / @ | -"
        )
    return subjects


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError("one of them is no address and no network") from None


def _header_safe(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("it holds blanks or characters that a header cannot carry")
    return text


def _module(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?", text):
        raise ValueError
    return text


def _file(text: str) -> Path:
    if not Path(text).is_file():
        raise ValueError("there is no such file")
    return Path(text)


def _executable(text: str) -> Path:
    if not Path(text).exists():
        raise ValueError("there is no such path")
    return Path(text)


def _log_format(text: str) -> LogFormat:
    match text:
        case "json" | "text":
            return text
        case _:
            raise ValueError


def _log_level(text: str) -> LogLevel:
    match text:
        case "debug" | "info" | "warning" | "error":
            return text
        case _:
            raise ValueError


def _pooler(text: str) -> bool:
    """Whether there is one."""
    match text:
        case "none" | "transaction":
            return text == "transaction"
        case _:
            raise ValueError


def _yes_or_no(text: str) -> bool:
    match text:
        case "true" | "false":
            return text == "true"
        case _:
            raise ValueError


def _failpoint(text: str) -> str:
    if text not in failpoints.NAMES:
        raise ValueError
    return text


def _name(text: str) -> str:
    if len(text) > 40 or not text.isprintable():
        raise ValueError("it has more than 40 characters or cannot be printed")
    return text


def _filled(text: str) -> str:
    return text


_POSTGRES = "a PostgreSQL URL, for example postgresql://ferryman@db:5432/app"
DATABASE_URL: Final = Variable(
    "FERRYMAN_DATABASE_URL", _POSTGRES, _url("postgresql", "postgres", host=False), secret=True,
    hint="Only trying it out? `ferryman dev` brings its own database.",
)  # fmt: skip
OWNER_DATABASE_URL: Final = Variable(
    "FERRYMAN_OWNER_DATABASE_URL",
    "a PostgreSQL URL of the role that owns the schema",
    _url("postgresql", "postgres", host=False),
    secret=True,
)
REDIS_URL: Final = Variable(
    "FERRYMAN_REDIS_URL",
    "a Redis URL, for example redis://:password@redis:6379/0, rediss://…, unix:///run/redis.sock or "
    "sentinel://host:26379,host:26379/service/0",
    _url("redis", "rediss", "unix", "sentinel"),
    secret=True,
    hint="Only trying it out? `ferryman dev` brings its own Redis.",
)
JWT_SECRET: Final = Variable(
    "FERRYMAN_JWT_SECRET", f"a secret of at least {MIN_SECRET_BYTES} bytes", _secret, secret=True,
    hint="One way to make one: openssl rand -base64 48",
)  # fmt: skip
JWT_PUBLIC_KEY: Final = Variable("FERRYMAN_JWT_PUBLIC_KEY", "an RSA or EC public key in PEM", _public_key)
JWKS_URL: Final = Variable("FERRYMAN_JWKS_URL", "the https:// address of a JSON Web Key Set", _jwks_url)
JWKS_CA: Final = Variable(
    "FERRYMAN_JWKS_CA", "a file with the certificates to trust at FERRYMAN_JWKS_URL", _file
)
JWKS_BEARER: Final = Variable(
    "FERRYMAN_JWKS_BEARER", "a file with a token to present at FERRYMAN_JWKS_URL, read anew each time", _file
)
SERVICE_SUBJECTS: Final = Variable(
    "FERRYMAN_SERVICE_SUBJECTS",
    "subjects whose tokens have the role service, with commas between them, for example "
    "system:serviceaccount:ferryman:operator",
    _subjects,
)
JWT_ISSUER: Final = Variable("FERRYMAN_JWT_ISSUER", "the `iss` that tokens must carry", _filled)
JWT_AUDIENCE: Final = Variable("FERRYMAN_JWT_AUDIENCE", "the `aud` that tokens must carry", _filled)
HANDLERS: Final = Variable(
    "FERRYMAN_HANDLERS",
    "a module with a Registry, for example shop.jobs or shop.jobs:registry",
    _module,
    hint="`ferryman worker --handlers MODULE` names it, too; `--settings PATH` names an arq settings class.",
)
QUEUES_FILE: Final = Variable(
    "FERRYMAN_QUEUES_FILE", "the path of a TOML or YAML file with queues.<name> tables", _file
)
API_URL: Final = Variable(
    "FERRYMAN_API_URL", "the API's address, for example http://127.0.0.1:3101", _url("http", "https")
)
TOKEN: Final = Variable("FERRYMAN_TOKEN", "a bearer token (JWT)", _header_safe, secret=True)
LOG_FORMAT: Final = Variable("FERRYMAN_LOG_FORMAT", "json or text", _log_format)
LOG_LEVEL: Final = Variable("FERRYMAN_LOG_LEVEL", "debug, info, warning or error", _log_level)
MAX_BODY_BYTES: Final = Variable(
    "FERRYMAN_MAX_BODY_BYTES", "a whole number of bytes from 1024 to 104857600", _whole(1_024, 104_857_600)
)
HOST: Final = Variable("FERRYMAN_HOST", "the address to listen on, for example 0.0.0.0", _header_safe)
PORT: Final = Variable("FERRYMAN_PORT", "a port, from 0 (any free one) to 65535", _whole(0, 65_535))
SHUTDOWN_GRACE_SECONDS: Final = Variable(
    "FERRYMAN_SHUTDOWN_GRACE_SECONDS", "seconds from 0 to 86400", _number(0, 86_400)
)
API_RATE_PER_SECOND: Final = Variable(
    "FERRYMAN_API_RATE_PER_SECOND", "calls a second of one user, 0 for no limit", _number(0, 1_000_000)
)
API_RATE_BURST: Final = Variable(
    "FERRYMAN_API_RATE_BURST", "calls that one user may make at once", _whole(0, 1_000_000)
)
EVENTS_ORIGINS: Final = Variable(
    "FERRYMAN_EVENTS_ORIGINS",
    "origins whose pages may read events, with commas between them, for example https://console.example.com",
    _origins,
)
TRUSTED_PROXIES: Final = Variable(
    "FERRYMAN_TRUSTED_PROXIES",
    "addresses or networks of proxies whose X-Forwarded-For counts, with commas between them, for example "
    "10.0.0.0/8",
    _networks,
)
ENVIRONMENT_NAME: Final = Variable(
    "FERRYMAN_ENVIRONMENT_NAME", "what people call this installation, for example production", _name
)
_LINK = "an address with {traceId}, {correlationId} or {jobId} where the id belongs"
TRACE_LINK: Final = Variable("FERRYMAN_TRACE_LINK", _LINK, _url("https", "http"))
LOGS_LINK: Final = Variable("FERRYMAN_LOGS_LINK", _LINK, _url("https", "http"))
POOL_SIZE: Final = Variable(
    "FERRYMAN_POOL_SIZE", "PostgreSQL connections of one process, from 2 to 200", _whole(2, 200)
)
POOLER: Final = Variable(
    "FERRYMAN_POOLER", "none, or transaction for a pooler in transaction mode before PostgreSQL", _pooler
)
WEBHOOK_ALLOW_PRIVATE: Final = Variable(
    "FERRYMAN_WEBHOOK_ALLOW_PRIVATE",
    "true, so that webhooks may go to internal addresses and over plain HTTP, or false",
    _yes_or_no,
)
API_DRAIN_SECONDS: Final = Variable(
    "FERRYMAN_API_DRAIN_SECONDS",
    "seconds from 0 to 600 in which a stopping API says that it is not ready and still answers",
    _number(0, 600),
)
FAILPOINT: Final = Variable(
    "FERRYMAN_FAILPOINT",
    f"one of {', '.join(sorted(failpoints.NAMES))} (for tests: kills the process)",
    _failpoint,
)
POSTGRES_BIN: Final = Variable(
    "FERRYMAN_POSTGRES_BIN", "a folder with initdb, postgres and psql, for `ferryman dev`", _executable
)
REDIS_BIN: Final = Variable(
    "FERRYMAN_REDIS_BIN", "the program of a Redis or Valkey server, for `ferryman dev`", _executable
)

ALL: Final[tuple[Variable[object], ...]] = (
    DATABASE_URL, OWNER_DATABASE_URL, REDIS_URL,
    JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL, JWKS_CA, JWKS_BEARER, JWT_ISSUER, JWT_AUDIENCE, SERVICE_SUBJECTS,
    HANDLERS, QUEUES_FILE, API_URL, TOKEN, LOG_FORMAT, LOG_LEVEL, MAX_BODY_BYTES, HOST, PORT,
    SHUTDOWN_GRACE_SECONDS, API_RATE_PER_SECOND, API_RATE_BURST, TRUSTED_PROXIES, EVENTS_ORIGINS,
    ENVIRONMENT_NAME,
    TRACE_LINK, LOGS_LINK,
    POOL_SIZE, POOLER, WEBHOOK_ALLOW_PRIVATE, API_DRAIN_SECONDS, FAILPOINT, POSTGRES_BIN, REDIS_BIN,
)  # fmt: skip
