"""What each kind of process is set to, read and checked once at its start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from ferryman.core.queues import QueueSettings
from ferryman.settings import variables as v
from ferryman.settings.environment import Environment, SettingsError, missing
from ferryman.settings.queues_file import read_queues_file
from ferryman.settings.variables import LogFormat, LogLevel, Network

T = TypeVar("T")

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 3_101
DEFAULT_API_URL: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
DEFAULT_MAX_BODY_BYTES: Final = 1_048_576
DEFAULT_GRACE_SECONDS: Final = 30.0
DEFAULT_POOL_SIZE: Final = 7
DEFAULT_DRAIN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """`form` None: text on a terminal, else JSON."""

    form: LogFormat | None
    level: LogLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Where ledger and dispatcher are."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    pool_size: int
    is_pooled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """How tokens are checked: exactly one of secret, public key and JWKS address is set. `jwks_ca` and
    `jwks_bearer` go with the address: certificates to trust there, and a token to present.
    """

    secret: str | None = field(repr=False)
    public_key: str | None
    jwks_url: str | None
    issuer: str | None
    audience: str | None
    jwks_ca: Path | None = None
    jwks_bearer: Path | None = None
    service_subjects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    """How many calls a second one user may make, 0 for any number, and how many at once; and the proxies
    whose word on the caller's address counts.
    """

    calls_per_second: float
    call_burst: int
    trusted_proxies: tuple[Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationSettings:
    """What the API tells people about where they are."""

    name: str
    trace_link: str | None
    logs_link: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Of `ferryman api`. `queues` come from the queues file; None when there is none."""

    stores: StoreSettings
    identity: IdentitySettings
    rates: RateSettings
    installation: InstallationSettings
    host: str
    port: int
    max_body_bytes: int
    drain_seconds: float
    grace_seconds: float
    queues: Mapping[str, QueueSettings]
    webhooks_allow_private: bool
    events_origins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Of `ferryman worker`: either `handlers` or `arq_settings` is set, or neither where its queues are the
    system's alone.
    """

    stores: StoreSettings
    handlers: str | None
    arq_settings: str | None
    grace_seconds: float
    webhooks_allow_private: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """How the command line reaches the API. `signing` is there on a development machine only."""

    url: str
    token: str | None = field(repr=False)
    signing: IdentitySettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServers:
    """Programs of other servers than the embedded ones, for `dev` and `demo`."""

    postgres_bin: Path | None
    redis_bin: Path | None


def log_settings(environment: Environment) -> LogSettings:
    """Raises SettingsError, as all of these."""
    return LogSettings(form=environment.get(v.LOG_FORMAT), level=environment.get(v.LOG_LEVEL) or "info")


def store_settings(environment: Environment) -> StoreSettings:
    return StoreSettings(
        database_url=environment.require(v.DATABASE_URL),
        redis_url=environment.require(v.REDIS_URL),
        pool_size=environment.get(v.POOL_SIZE) or DEFAULT_POOL_SIZE,
        is_pooled=environment.get(v.POOLER) or False,
    )


def identity_settings(environment: Environment) -> IdentitySettings:
    keys = [k for k in (v.JWT_SECRET, v.JWT_PUBLIC_KEY, v.JWKS_URL) if environment.is_set(k)]
    if not keys:
        raise SettingsError(
            "none of FERRYMAN_JWT_SECRET, FERRYMAN_JWT_PUBLIC_KEY and FERRYMAN_JWKS_URL is set",
            "One of them says how tokens are checked: "
            f"{v.JWT_SECRET.takes}, {v.JWT_PUBLIC_KEY.takes}, or {v.JWKS_URL.takes}.",
            "Each has a _FILE twin that reads it from a file.",
        )
    if len(keys) > 1:
        raise SettingsError(
            f"{' and '.join(key.name for key in keys)} are both set",
            "Tokens are checked in one way: unset one.",
        )
    audience, subjects = environment.get(v.JWT_AUDIENCE), environment.get(v.SERVICE_SUBJECTS) or ()
    if subjects and audience is None:
        raise SettingsError(
            f"{v.SERVICE_SUBJECTS.name} is set, but {v.JWT_AUDIENCE.name} is not",
            "Without an audience, a token that was made for another service would count here, too.",
        )
    return IdentitySettings(
        secret=environment.get(v.JWT_SECRET),
        public_key=environment.get(v.JWT_PUBLIC_KEY),
        jwks_url=environment.get(v.JWKS_URL),
        issuer=environment.get(v.JWT_ISSUER),
        audience=audience,
        jwks_ca=environment.get(v.JWKS_CA),
        jwks_bearer=environment.get(v.JWKS_BEARER),
        service_subjects=subjects,
    )


def api_settings(environment: Environment, *, host: str | None, port: int | None) -> ApiSettings:
    """`host` and `port` are what the command line says; None leaves it to the environment."""
    configured_port = environment.get(v.PORT)
    return ApiSettings(
        stores=store_settings(environment),
        identity=identity_settings(environment),
        rates=rate_settings(environment),
        installation=InstallationSettings(
            name=environment.get(v.ENVIRONMENT_NAME) or "",
            trace_link=environment.get(v.TRACE_LINK),
            logs_link=environment.get(v.LOGS_LINK),
        ),
        host=host or environment.get(v.HOST) or DEFAULT_HOST,
        port=_first(port, configured_port, DEFAULT_PORT),
        max_body_bytes=environment.get(v.MAX_BODY_BYTES) or DEFAULT_MAX_BODY_BYTES,
        drain_seconds=_first(environment.get(v.API_DRAIN_SECONDS), DEFAULT_DRAIN_SECONDS),
        grace_seconds=grace_seconds(environment),
        queues=queues_of_file(environment),
        webhooks_allow_private=environment.get(v.WEBHOOK_ALLOW_PRIVATE) is True,
        events_origins=environment.get(v.EVENTS_ORIGINS) or (),
    )


def rate_settings(environment: Environment) -> RateSettings:
    rate = environment.get(v.API_RATE_PER_SECOND) or 0.0
    return RateSettings(
        calls_per_second=rate,
        call_burst=environment.get(v.API_RATE_BURST) or math.ceil(rate),
        trusted_proxies=environment.get(v.TRUSTED_PROXIES) or (),
    )


def worker_settings(
    environment: Environment, *, handlers: str | None, arq_settings: str | None, has_own: bool = False
) -> WorkerSettings:
    """`handlers` and `arq_settings` are what the command line says; without both the environment is asked.
    `has_own`: the worker knows the jobs of its queues by itself, and takes no word of an application.
    """
    if not handlers and not arq_settings and not has_own:
        handlers = environment.require(v.HANDLERS)
    return WorkerSettings(
        stores=store_settings(environment),
        handlers=handlers,
        arq_settings=arq_settings,
        grace_seconds=grace_seconds(environment),
        webhooks_allow_private=environment.get(v.WEBHOOK_ALLOW_PRIVATE) is True,
    )


def queues_of_file(environment: Environment) -> Mapping[str, QueueSettings]:
    """What the queues file says; nothing without one."""
    file = environment.get(v.QUEUES_FILE)
    return read_queues_file(file) if file else {}


def grace_seconds(environment: Environment) -> float:
    return _first(environment.get(v.SHUTDOWN_GRACE_SECONDS), DEFAULT_GRACE_SECONDS)


def owner_database_url(environment: Environment) -> str:
    """The address of the schema's owner, else the service's."""
    return environment.get(v.OWNER_DATABASE_URL) or environment.require(v.DATABASE_URL)


def service_login(environment: Environment) -> str | None:
    """The role that the service connects as, when the schema belongs to another one."""
    if not environment.is_set(v.OWNER_DATABASE_URL) or not environment.is_set(v.DATABASE_URL):
        return None
    login = _login(environment.require(v.DATABASE_URL))
    return None if login == _login(environment.require(v.OWNER_DATABASE_URL)) else login


def secrets_of(environment: Environment) -> list[str]:
    """Every secret value that is set, for the logs to leave out, passwords inside URLs among them."""
    texts = [environment.get(one) for one in v.ALL if one.secret and environment.is_set(one)]
    values = [text for text in texts if isinstance(text, str)]
    passwords = [unquote(urlsplit(text).password or "") for text in values if "://" in text]
    return [secret for secret in (*values, *passwords) if secret]


def access_settings(environment: Environment) -> AccessSettings:
    token = environment.get(v.TOKEN)
    signs = token is None and environment.is_set(v.JWT_SECRET)
    return AccessSettings(
        url=(environment.get(v.API_URL) or DEFAULT_API_URL).rstrip("/"),
        token=token,
        signing=identity_settings(environment) if signs else None,
    )


def signing_settings(environment: Environment) -> IdentitySettings:
    """What `ferryman token` signs with: the secret alone can. Raises SettingsError without one."""
    if not environment.is_set(v.JWT_SECRET):
        raise missing(v.JWT_SECRET)
    return identity_settings(environment)


def local_servers(environment: Environment) -> LocalServers:
    return LocalServers(postgres_bin=environment.get(v.POSTGRES_BIN), redis_bin=environment.get(v.REDIS_BIN))


def _login(url: str) -> str | None:
    name = urlsplit(url).username
    return unquote(name) if name else None


def _first(*candidates: T | None) -> T:
    return next(c for c in candidates if c is not None)
