"""Whose connection a request came by, through proxies that are trusted and none other."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from aiohttp import web

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HOPS: Final = 20
_IPV6_PREFIX: Final = 64  # a household has so many addresses, and one bucket


def peer_of(request: web.Request, trusted: Sequence[Network]) -> str:
    """The address to hold the caller to; of IPv6 the network of 64 bits.

    `X-Forwarded-For` is read from its end, as long as the one who added an entry is a trusted proxy.
    """
    address = _parse(request.remote or "")
    hops = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")[-_MAX_HOPS:] if trusted else []
    while address is not None and hops and any(address in network for network in trusted):
        named = _parse(hops.pop().strip())
        if named is None:
            break
        address = named
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
