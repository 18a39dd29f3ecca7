"""Signatures, the addresses that webhooks may go to, and the ids of deliveries."""

from __future__ import annotations

import socket
from uuid import UUID

import msgspec
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from ferryman.core.addresses import is_public, url_fault
from ferryman.core.status import Action
from ferryman.core.webhooks import EventName, delivery_id, delivery_tenant
from ferryman.webhooks import SignatureError, sign, verify
from ferryman.worker.courier import CheckedResolver, Courier, ForbiddenAddressError, UndeliveredError

SECRET, OLD = "whsec_c2VjcmV0LW9mLXRoZS10ZXN0LXZlY3RvcnM", "whsec_b2xk"
BODY = b'{"event":"job.completed"}'
NOW = 1_764_000_000
# Made with: printf '1764000000.{"event":"job.completed"}' | openssl dgst -sha256 -hmac "$SECRET"
VECTOR = "ab46019547088c5e5ce2cc4c3319cc701ab7a14963c385ad500ab18727cb2e0c"


def headers(signature: str, event_id: str = "e-1") -> dict[str, str]:
    return {"ferryman-signature": signature, "FERRYMAN-EVENT-ID": event_id}


def test_the_signature_is_the_contract_s() -> None:
    assert sign([SECRET], NOW, BODY) == f"t={NOW},v1={VECTOR}"
    assert sign([SECRET, OLD], NOW, BODY).startswith(f"t={NOW},v1={VECTOR},v1=")


def test_either_of_two_live_secrets_will_do() -> None:
    signature = sign([SECRET, OLD], NOW, BODY)
    for known in ([SECRET], [OLD], ["whsec_other", OLD]):
        assert verify(known, headers(signature), BODY, now_s=NOW + 299) == "e-1"


@pytest.mark.parametrize(
    ("signature", "body", "secrets", "now"),
    [
        (sign([SECRET], NOW, BODY), BODY + b" ", [SECRET], NOW),
        (sign([SECRET], NOW, BODY), BODY, [OLD], NOW),
        (sign([SECRET], NOW, BODY), BODY, [], NOW),
        (sign([SECRET], NOW, BODY), BODY, [SECRET], NOW + 301),
        (sign([SECRET], NOW, BODY), BODY, [SECRET], NOW - 301),
        (sign([SECRET], NOW, BODY).replace(str(NOW), str(NOW + 1)), BODY, [SECRET], NOW),
        (sign([SECRET], NOW, BODY) + f",t={NOW}", BODY, [SECRET], NOW),
        (f"v1={VECTOR}", BODY, [SECRET], NOW),
        (f"t={NOW}", BODY, [SECRET], NOW),
        (f"t=-{NOW},v1={VECTOR}", BODY, [SECRET], NOW),
        (f"t={NOW},v1=ä", BODY, [SECRET], NOW),
        (f"t={NOW}" + ",v1=00" * 100, BODY, [SECRET], NOW),
        ("", BODY, [SECRET], NOW),
    ],
)
def test_what_does_not_verify(signature: str, body: bytes, secrets: list[str], now: int) -> None:
    with pytest.raises(SignatureError):
        verify(secrets, headers(signature), body, now_s=now)


def test_an_event_without_an_id_does_not_verify() -> None:
    with pytest.raises(SignatureError, match="Ferryman-Event-Id"):
        verify([SECRET], headers(sign([SECRET], NOW, BODY), ""), BODY, now_s=NOW)


INTERNAL = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
    "168.63.129.16", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1",
    "2001:db8::1", "2002:7f00:1::", "2002:808:808::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1",
    "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1", "4000::1", "localhost", "1.2.3", "",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.0.1.1",
    "223.255.255.1", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
    "2001:4860:4860::8888",
]  # fmt: skip


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


REFUSED = [
    "http://hooks.example.com/", "ftp://hooks.example.com/", "file:///etc/passwd", "https:///nohost",
    "hooks.example.com", "//hooks.example.com", "https://user@hooks.example.com/",
    "https://user:secret@hooks.example.com/", "https://hooks.example.com/#fragment", "https://127.0.0.1/",
    "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/", "https://169.254.169.254/latest",
    "https://localhost/", "https://LOCALHOST./", "https://api.localhost/", "https://printer.local/",
    "https://metadata.google.internal/", "https://redis:6379/", "https://2130706433/", "https://0x7f000001/",
    "https://hooks.example.com:0/", "https://hooks.example.com:99999/", "https://hooks.example.com:port/",
    "https://[::1/", "https://hooks.example.com\\@127.0.0.1/", "https://hooks.example.com/ x",
    "https://hooks.exämple.com/", "https://hooks.example.com/\r\nX: y", "https://x.com/" + "a" * 2048, "",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_urls_that_are_refused(url: str) -> None:
    assert url_fault(url, allow_private=False) is not None


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com", "https://hooks.example.com:8443/a?b=c", "HTTPS://8.8.8.8/",
        "https://[2606:4700:4700::1111]/",
    ],
)  # fmt: skip
def test_urls_that_are_taken(url: str) -> None:
    assert url_fault(url, allow_private=False) is None


def test_where_private_is_allowed_plain_http_is() -> None:
    assert url_fault("http://127.0.0.1:8080/hook", allow_private=True) is None
    assert url_fault("http://receiver:8080/hook", allow_private=True) is None
    assert url_fault("http://user@receiver/hook", allow_private=True) is not None


class Names(AbstractResolver):
    """Says of every name what it was told to."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in self.addresses
        ]

    async def close(self) -> None:
        pass


async def test_a_name_is_judged_by_every_address_it_has() -> None:
    good = await CheckedResolver(Names("8.8.8.8", "1.1.1.1")).resolve("hooks.example.com", 443)
    assert [one["host"] for one in good] == ["8.8.8.8", "1.1.1.1"]
    for addresses in (["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"]):
        with pytest.raises(ForbiddenAddressError):
            await CheckedResolver(Names(*addresses)).resolve("hooks.example.com", 443)


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1/", "https://[::1]/", "http://hooks.example.com/", "https://redis/", "https://127.1/"],
)
async def test_the_courier_checks_again_what_an_endpoint_says(url: str) -> None:
    with pytest.raises(UndeliveredError):
        await Courier(allow_private=False, resolver=Names("127.0.0.1")).post(url, b"{}", {})


@pytest.mark.parametrize("host", ["hooks.example.com", "0x7f.1", "127.0.0.1.example.com"])
async def test_the_courier_does_not_follow_a_name_inside(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        await Courier(allow_private=False, resolver=Names("127.0.0.1")).post(f"https://{host}/", b"{}", {})


def test_every_action_has_its_event_and_nothing_else() -> None:
    for action in Action:
        assert msgspec.convert(f"job.{action}", EventName) == f"job.{action}"
    for other in ("completed", "job.", "job.completed2", "job.completed\n", "queue.paused"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(other, EventName)


def test_a_delivery_has_one_id_that_sorts_by_its_event() -> None:
    webhook, other = UUID(int=1), UUID(int=2)
    early, late = UUID("0197f000-0000-7000-8000-000000000001"), UUID("0197f000-0001-7000-8000-000000000001")
    assert delivery_id(webhook, early) == delivery_id(webhook, early) != delivery_id(other, early)
    assert delivery_id(webhook, early) < delivery_id(webhook, late)
    assert delivery_id(webhook, early).version == 7


def test_deliveries_run_in_a_name_that_no_token_carries() -> None:
    name = delivery_tenant("acme")
    assert name.startswith(" ")
    assert len(name) <= 50
    assert name != delivery_tenant("globex")
