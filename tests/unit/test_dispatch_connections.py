"""Addresses of Redis: what each form means, and that a wrong one never shows its password."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis, UnixDomainSocketConnection
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool

from ferryman.dispatch.connections import RedisAddressError, open_client

SECRET = "s3cr3t"


def client(url: str) -> Redis:
    return open_client(url, connections=4, timeout_s=0.7)


def test_a_plain_address() -> None:
    options = client(f"redis://user:{SECRET}@cache:6380/3").connection_pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("cache", 6380, 3)
    assert (options["username"], options["password"]) == ("user", SECRET)
    assert options["socket_timeout"] == 0.7


def test_an_encrypted_one() -> None:
    pool = client("rediss://cache/0?ssl_cert_reqs=none").connection_pool
    assert pool.connection_class is SSLConnection
    assert pool.connection_kwargs["ssl_cert_reqs"] == "none"


def test_a_socket_in_the_file_system() -> None:
    pool: Any = client(f"unix://:{SECRET}@/run/redis.sock?db=2").connection_pool
    assert pool.connection_class is UnixDomainSocketConnection
    assert pool.connection_kwargs["path"] == "/run/redis.sock"
    assert pool.make_connection().db == 2


def test_an_address_cannot_change_what_the_dispatcher_relies_on() -> None:
    pool = client("redis://cache?decode_responses=true&socket_timeout=90&max_connections=1").connection_pool
    assert pool.connection_kwargs["decode_responses"] is False
    assert pool.connection_kwargs["socket_timeout"] == 0.7
    assert pool.max_connections == 4


def test_sentinels() -> None:
    url = f"sentinel://user:{SECRET}%40@one:26380,two,[::1]:5000/main/5?sentinel_password=other"
    pool = client(url).connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "main"
    asked = [s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels]
    assert [(options["host"], options["port"]) for options in asked] == [
        ("one", 26380),
        ("two", 26379),
        ("::1", 5000),
    ]
    assert {options["password"] for options in asked} == {"other"}
    assert pool.connection_kwargs["password"] == f"{SECRET}@"
    assert pool.connection_kwargs["db"] == 5


@pytest.mark.parametrize(
    "url",
    [
        "",
        "cache:6379",
        f"http://:{SECRET}@cache",
        f"redis://:{SECRET}@cache:port",
        f"redis://:{SECRET}/x@cache:6379",
        f"redis://:{SECRET}@cache?no_such_option=1",
        f"redis://:{SECRET}@cache?health_check_interval=often",
        f"sentinel://:{SECRET}@one",
        f"sentinel://:{SECRET}@/main",
        f"sentinel://:{SECRET}@one,,two/main",
        f"sentinel://:{SECRET}@one:port/main",
        f"sentinel://:{SECRET}@one/main/five",
        f"sentinel://:{SECRET}@one/main?no_such_option=1",
    ],
)
def test_a_wrong_address_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(RedisAddressError) as caught:
        client(url)
    assert "redis://" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
