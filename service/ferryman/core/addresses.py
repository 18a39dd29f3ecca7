"""Which addresses of the internet a webhook may go to: pure rules, nothing is resolved here."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 2_048

# IANA's registries of special-purpose addresses (RFC 6890 and what followed), with multicast, the reserved
# block, and one public address behind which a cloud answers its own machines.
_INTERNAL_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# All that was ever given out as global unicast lies in one block; these parts of it are special.
_GLOBAL_6: Final = IPv6Network("2000::/3")
_INTERNAL_6: Final = tuple(
    IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
# An IPv4 address in IPv6's clothes is judged by what is inside.
_NAT64: Final = IPv6Network("64:ff9b::/96")
_UNSAFE: Final = re.compile(r"[^\x21-\x7e]|[\\@#]")


def is_public(text: str) -> bool:
    """Whether this IP address belongs to somebody on the internet. What is no address is not public."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _is_public_4(address) if isinstance(address, IPv4Address) else _is_public_6(address)


def _is_public_4(address: IPv4Address) -> bool:
    return not any(address in network for network in _INTERNAL_4)


def _is_public_6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    inside = address.ipv4_mapped
    if inside is None and address in _NAT64:
        inside = IPv4Address(int(address) & 0xFFFF_FFFF)
    if inside is not None:
        return _is_public_4(inside)
    return address in _GLOBAL_6 and not any(address in network for network in _INTERNAL_6)


def url_fault(url: str, *, allow_private: bool) -> str | None:
    """Why nothing may be sent to this URL, as far as its text tells; None when it may.

    The names in it are judged when they are resolved, each time.
    """
    if len(url) > MAX_URL_CHARS:
        return f"takes at most {MAX_URL_CHARS} characters; got {len(url)}"
    if _UNSAFE.search(url):
        return "takes printable ASCII without a user, a password, a fragment or a backslash"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "takes an absolute URL"
    if parts.scheme not in (("https", "http") if allow_private else ("https",)):
        return "takes an https:// URL"
    if not host or port == 0:
        return "takes a URL that names a host"
    return None if allow_private else _host_fault(host)


def _host_fault(host: str) -> str | None:
    if _is_address(host):
        return None if is_public(host) else "takes a public address; this one is internal"
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith((".localhost", ".local", ".internal")) or "." not in name:
        return "takes a public name; this one is internal"
    return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
