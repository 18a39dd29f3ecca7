"""Whose address a request is held to, behind proxies that are trusted and before others."""

from ipaddress import ip_network

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from ferryman.api.peers import peer_of

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


@pytest.mark.parametrize(
    ("remote", "forwarded", "peer"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["10.0.0.3"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("2001:db8:1::5", ["2001:db8:ffff:1:2:3:4:5"], "2001:db8:ffff:1::/64"),
        ("2001:db8:2:3::5%eth0", [], "2001:db8:2:3::/64"),
        ("10.0.0.1", [",".join(["198.51.100.7"] + ["10.0.0.2"] * 1_000)], "10.0.0.2"),
    ],
)
def test_the_peer(remote: str, forwarded: list[str], peer: str) -> None:
    headers = CIMultiDict([("X-Forwarded-For", value) for value in forwarded])
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=remote)
    assert peer_of(request, TRUSTED) == peer


def test_without_trusted_proxies_nobody_s_word_counts() -> None:
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": "198.51.100.7"})
    assert peer_of(request.clone(remote="10.0.0.1"), []) == "10.0.0.1"
