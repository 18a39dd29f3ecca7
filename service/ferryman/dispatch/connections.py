"""Clients of redis-py out of one address: `redis://`, `rediss://`, `unix://` or `sentinel://`."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool

SENTINEL_FORM: Final = "sentinel://[[user]:password@]host[:port][,host[:port]...]/service[/db]"
_SENTINEL_PORT: Final = 26379
_CONNECT_S: Final = 1.0
_SENTINEL_S: Final = 0.3


class RedisAddressError(ValueError):
    """The address of Redis cannot be understood. The message does not repeat it: it may hold a password."""


def open_client(url: str, *, connections: int, timeout_s: float) -> Redis:
    """A client that has not connected yet: answers in bytes, each with a timeout, and no retries of its own.

    `sentinel://[[user]:password@]host[:port][,host[:port]...]/service[/db]` asks these sentinels for the
    master; `?sentinel_username=`, `?sentinel_password=` are for the sentinels, `?ssl=true` for all of them.
    Raises RedisAddressError.
    """
    options: dict[str, Any] = {
        "max_connections": connections,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(_CONNECT_S, timeout_s),
        "socket_keepalive": True,
        "decode_responses": False,
        "protocol": 2,
        "lib_name": None,
        "lib_version": None,
    }
    try:
        is_sentinel = url.startswith("sentinel://")
        client = _by_sentinel(url, options) if is_sentinel else _direct(url, options)
        pool: Any = client.connection_pool
        pool.make_connection()  # which refuses what an address may not say
        return client
    except (ValueError, TypeError):
        # Without the cause: its text may hold a piece of the password.
        raise RedisAddressError(
            f"not an address of Redis: redis://, rediss://, unix:// or {SENTINEL_FORM}"
        ) from None


async def close_client(client: Redis) -> None:
    """Close its connections, and those to the sentinels."""
    pool = client.connection_pool
    await client.aclose()
    if isinstance(pool, SentinelConnectionPool):
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _direct(url: str, options: dict[str, Any]) -> Redis:
    given = parse_url(url)
    if given.get("path"):
        del options["socket_keepalive"]
    return Redis.from_pool(ConnectionPool(**{**given, **options}))


def _by_sentinel(url: str, options: dict[str, Any]) -> Redis:
    # By hand: urlsplit takes one host, and refuses several as soon as one of them is an IPv6 address.
    netloc, _, rest = url.removeprefix("sentinel://").partition("/")
    path, _, asked = rest.partition("?")
    credentials, _, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, db = path.strip("/").partition("/")
    query = {name: values[0] for name, values in parse_qs(asked, strict_parsing=bool(asked)).items()}
    known = {"sentinel_username", "sentinel_password", "ssl"}
    if not service or not hosts or not query.keys() <= known:
        raise ValueError("no service, no host or an unknown option")
    encrypted: dict[str, Any] = {"ssl": True} if query.get("ssl") == "true" else {}
    sentinels: Any = Sentinel(  # type: ignore[no-untyped-call]
        [_host_and_port(host) for host in hosts.split(",")],
        sentinel_kwargs={
            "socket_timeout": _SENTINEL_S,
            "socket_connect_timeout": _SENTINEL_S,
            "username": query.get("sentinel_username"),
            "password": query.get("sentinel_password"),
            **encrypted,
        },
    )
    client: Redis = sentinels.master_for(
        service,
        username=unquote(user) or None,
        password=unquote(password) or None,
        db=int(db or 0),
        **encrypted,
        **options,
    )
    return client


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a sentinel without a host")
    return parts.hostname, parts.port or _SENTINEL_PORT
