"""Key sets from a server that is slow, huge, hostile or gone: bounded, seldom, the last good one kept."""

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ferryman.auth import fetching
from ferryman.auth.fetching import Fetcher, FetchError
from ferryman.auth.jwks import JwksKeys, read_jwks
from ferryman.auth.keys import KeysUnavailableError, TokenRefusedError, UnknownKeyError
from ferryman.auth.principal import Role
from ferryman.auth.tokens import TokenVerifier
from ferryman.telemetry import names
from ferryman.telemetry.metrics import Metrics
from tests.support.key_servers import KeyServer, key_server, saying
from tests.support.tokens import Signer, es256, key_set, rs256

NOW = 1_800_000_000
CLAIMS = {"tenant_id": "acme", "user_id": 7, "roles": ["user"], "exp": NOW + 600}


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = float(NOW)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


class Gate:
    """A verifier on the keys of a server."""

    def __init__(self, server: KeyServer, **options: Any) -> None:
        self.server = server
        self.clock = HandClock()
        self.metrics = Metrics()
        self.keys = JwksKeys(Fetcher(f"{server.url}/keys"), self.clock, self.metrics)
        self.verifier = TokenVerifier(self.keys, self.clock, **options)

    async def passes(self, token: str) -> bool:
        try:
            await self.verifier.authenticate(token)
        except TokenRefusedError:
            return False
        return True


def token(signer: Signer, kid: str | None, **claims: Any) -> str:
    header = {"alg": signer.algorithm} if kid is None else {"alg": signer.algorithm, "kid": kid}
    return signer.token(header, CLAIMS | claims)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with key_server() as server:
        yield server


async def test_both_algorithms_by_kid(server: KeyServer) -> None:
    server.handle = saying(key_set(rs256().jwk("r", alg="RS256", use="sig"), es256().jwk("e")))
    gate = Gate(server)
    assert await gate.passes(token(rs256(), "r"))
    assert await gate.passes(token(es256(), "e"))
    assert not await gate.passes(token(rs256(), "e"))
    assert not await gate.passes(token(es256(), "r"))
    assert not await gate.passes(token(rs256(), None))
    assert len(server.asked) == 1


async def test_a_token_without_a_kid_means_the_only_key(server: KeyServer) -> None:
    server.handle = saying(key_set(es256().jwk("e"), {"kty": "oct", "k": "AA", "kid": "o"}))
    gate = Gate(server)
    assert await gate.passes(token(es256(), None))


async def test_what_is_known_is_verified_without_waiting(server: KeyServer) -> None:
    server.handle = saying(key_set(es256().jwk("e")))
    gate = Gate(server)
    await gate.keys.renew()
    assert gate.verifier.verify(token(es256(), "e")).user_id == 7
    with pytest.raises(UnknownKeyError):
        gate.verifier.verify(token(es256(), "unknown"))


async def test_an_unknown_kid_asks_once_in_30_seconds(server: KeyServer) -> None:
    server.handle = saying(key_set(es256().jwk("old")))
    gate = Gate(server)
    await gate.keys.renew()
    server.handle = saying(key_set(es256().jwk("old"), es256("two").jwk("new")))
    for number in range(20):
        assert not await gate.passes(token(es256("two"), f"churn-{number}"))
    assert not await gate.passes(token(es256("two"), "new"))
    assert len(server.asked) == 1
    gate.clock.seconds += 30
    assert await gate.passes(token(es256("two"), "new"))
    assert len(server.asked) == 2


async def test_callers_at_one_time_share_one_fetch(server: KeyServer) -> None:
    go = asyncio.Event()

    async def held(_: web.Request) -> web.Response:
        await go.wait()
        return web.Response(body=key_set(es256().jwk("e")))

    server.handle = held
    gate = Gate(server)
    callers = [asyncio.create_task(gate.passes(token(es256(), "e", jti=str(n)))) for n in range(50)]
    while not server.asked:
        await asyncio.sleep(0)
    callers[0].cancel()  # who gives up does not take the fetch with them
    go.set()
    assert await asyncio.gather(*callers[1:]) == [True] * 49
    assert len(server.asked) == 1


async def test_a_withdrawn_key_ends_its_remembered_tokens(server: KeyServer) -> None:
    server.handle = saying(key_set(es256().jwk("old"), rs256().jwk("kept")))
    gate = Gate(server)
    old, kept = token(es256(), "old"), token(rs256(), "kept")
    assert await gate.passes(old)
    assert await gate.passes(kept)
    server.handle = saying(key_set(rs256().jwk("kept")))
    gate.clock.seconds += 30
    await gate.keys.renew()
    assert not await gate.passes(old)
    assert await gate.passes(kept)


async def test_the_same_kid_with_another_key_is_the_other_key(server: KeyServer) -> None:
    server.handle = saying(key_set(es256().jwk("k")))
    gate = Gate(server)
    mine = token(es256(), "k")
    assert await gate.passes(mine)
    server.handle = saying(key_set(es256("two").jwk("k")))
    gate.clock.seconds += 30
    await gate.keys.renew()
    assert not await gate.passes(mine)
    assert await gate.passes(token(es256("two"), "k"))


GOOD = key_set(es256().jwk("e"))


async def _redirect(request: web.Request) -> web.Response:
    if request.path == "/elsewhere":
        return web.Response(body=GOOD)
    return web.Response(status=302, headers={"Location": "/elsewhere"})


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def _dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


async def _silent(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(GOOD[:20])
    assert request.transport is not None
    request.transport.abort()
    return response


async def _failing(_: web.Request) -> web.Response:
    return web.Response(status=500, body=GOOD)


HOSTILE = {
    "redirect": _redirect,
    "endless": _endless,
    "dripping": _dripping,
    "silent": _silent,
    "cut": _cut,
    "status 500": _failing,
    "large": saying(GOOD + b" " * 256 * 1_024),
    "compressed": saying(gzip.compress(GOOD), **{"Content-Encoding": "gzip"}),
    "a page": saying(b"<html></html>"),
    "nothing": saying(b""),
    "not UTF-8": saying(b'{"keys":[{"kid":"\xff"}]}'),
    "deep": saying(b"[" * 100_000),
    "number bomb": saying(b'{"keys":[1e100000]}'),
    "keys twice": saying(GOOD[:-1] + b',"keys":[]}'),
    "a list": saying(b"[]"),
    "keys an object": saying(b'{"keys":{}}'),
    "no keys": saying(b'{"keys":[]}'),
    "51 keys": saying(key_set(*[es256().jwk(str(n)) for n in range(51)])),
    "useless keys alone": saying(key_set({"kty": "oct", "k": "AAAA", "kid": "e"}, 1, None, "x", [], {})),
}


@pytest.mark.parametrize("handle", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_bad_answer_leaves_the_last_good_keys(
    server: KeyServer, handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "FETCH_SECONDS", 0.3)
    server.handle = saying(GOOD)
    gate = Gate(server)
    assert await gate.passes(token(es256(), "e"))
    server.handle = handle
    gate.clock.seconds += 30
    assert not await gate.passes(token(es256(), "unknown"))
    assert await gate.passes(token(es256(), "e", jti="another"))
    assert "/elsewhere" not in server.asked
    assert gate.metrics.value(names.KEY_FETCHES_TOTAL, outcome="failed") == 1


async def test_without_any_keys_nobody_is_refused_for_good(server: KeyServer) -> None:
    server.handle = _failing
    gate = Gate(server)
    with pytest.raises(KeysUnavailableError):
        await gate.verifier.authenticate(token(es256(), "e"))
    with pytest.raises(KeysUnavailableError):
        await gate.verifier.authenticate(token(es256(), "e"))
    with pytest.raises(TokenRefusedError):
        await gate.verifier.authenticate("forged")
    assert len(server.asked) == 1
    server.handle = saying(GOOD)
    gate.clock.seconds += 5
    assert await gate.passes(token(es256(), "e"))


async def test_nothing_but_the_one_address_is_ever_asked(server: KeyServer) -> None:
    server.handle = saying(GOOD)
    gate = Gate(server)
    await gate.keys.renew()
    gate.clock.seconds += 30
    for name in ("jku", "x5u", "jwk", "x5c", "iss"):
        header = {"alg": "ES256", "kid": "e", name: f"{server.url}/evil"}
        assert not await gate.passes(es256().token(header, CLAIMS))
    for kid in ("../../evil", f"{server.url}/evil", "' OR 1=1 --", "e\x00", "k" * 129):
        assert not await gate.passes(token(es256(), kid))
    assert set(server.asked) == {"/keys"}
    assert len(server.asked) <= 2


async def test_the_server_s_own_token_is_read_anew_each_time(server: KeyServer, tmp_path: Path) -> None:
    server.handle = saying(GOOD)
    bearer = tmp_path / "token"
    fetch = Fetcher(server.url, bearer=bearer)
    with pytest.raises(FetchError, match="token to present"):
        await fetch()
    for content in ("one", "two\n"):
        bearer.write_text(content)
        await fetch()
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer one", "Bearer two"]
    assert "Cookie" not in server.headers[-1]


async def test_a_stranger_s_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no certificates"):
        Fetcher("https://localhost/keys", ca=tmp_path / "none")
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(ValueError, match="holds no certificates"):
        Fetcher("https://localhost/keys", ca=tmp_path / "ca")
    assert Fetcher("https://localhost/keys")._trust.verify_mode is ssl.CERT_REQUIRED


async def test_projected_service_account_tokens_are_services(server: KeyServer) -> None:
    server.handle = saying(key_set(rs256().jwk("cluster")))
    operator = "system:serviceaccount:ferryman:operator"
    gate = Gate(
        server,
        issuer="https://kubernetes.default.svc",
        audience="ferryman",
        service_subjects=[operator],
    )
    projected = {
        "iss": "https://kubernetes.default.svc",
        "aud": ["ferryman"],
        "sub": operator,
        "exp": NOW + 3_600,
        "iat": NOW,
        "nbf": NOW,
        "jti": "b1d9",
        "kubernetes.io": {"namespace": "ferryman", "serviceaccount": {"name": "operator", "uid": "1"}},
    }

    def of(**changes: Any) -> str:
        return rs256().token({"alg": "RS256", "kid": "cluster"}, projected | changes)

    principal = await gate.verifier.authenticate(of())
    assert (principal.roles, principal.subject) == ({Role.SERVICE}, operator)
    assert (principal.tenant_id, principal.user_id) == (None, None)
    for changes in (
        {"sub": operator + "2"},
        {"sub": operator.upper()},
        {"sub": "system:serviceaccount:other:operator"},
        {"aud": ["https://kubernetes.default.svc"]},
        {"iss": "https://other"},
        {"exp": NOW - 60},
    ):
        assert not await gate.passes(of(**changes)), changes
    # Who claims something of ours is what they claim, and never more by their subject.
    mine = await gate.verifier.authenticate(of(tenant_id="acme", user_id=1, roles=["user"]))
    assert mine.roles == {Role.USER}


USELESS: dict[str, Any] = {
    "another curve": {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
    "a point off the curve": es256().jwk("k") | {"x": "AA"},
    "RSA of 1024 bits": rs256("small", 1_024).jwk("k"),
    "a modulus of a megabit": {"kty": "RSA", "n": "B" * 200_000, "e": "AQAB"},
    "exponent 1": rs256().jwk("k") | {"e": "AQ"},
    "a huge exponent": rs256().jwk("k") | {"e": "B" * 200},
    "a padded number": rs256().jwk("k") | {"e": "AQAB=="},
    "for encryption": rs256().jwk("k", use="enc"),
    "to sign only": rs256().jwk("k", key_ops=["sign"]),
    "key_ops a text": rs256().jwk("k", key_ops="verify"),
    "RS384": rs256().jwk("k", alg="RS384"),
    "PS256": rs256().jwk("k", alg="PS256"),
    "HS256": rs256().jwk("k", alg="HS256"),
    "none": rs256().jwk("k", alg="none"),
    "alg null": rs256().jwk("k", alg=None),
    "a private key": rs256().jwk("k", d="AA"),
    "a secret": {"kty": "oct", "kid": "k", "k": "A" * 64},
    "OKP": {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "A" * 43},
    "kid a number": rs256().jwk(None) | {"kid": 7},
    "kid long": rs256().jwk("k" * 129),
    "kty a list": {"kty": ["RSA"], "kid": "k"},
    "n a number": rs256().jwk("k") | {"n": 7},
}


@pytest.mark.parametrize("entry", USELESS.values(), ids=USELESS.keys())
def test_a_useless_entry_is_passed_over(entry: Any) -> None:
    assert list(read_jwks(key_set(entry, es256().jwk("good")))) == ["good"]
    with pytest.raises(FetchError):
        read_jwks(json.dumps({"keys": [entry]}).encode())


def test_of_two_keys_with_one_kid_the_first_counts() -> None:
    kept = read_jwks(key_set(rs256().jwk("k", alg="PS256"), es256().jwk("k"), rs256().jwk("k")))
    assert [key.algorithm for key in kept.values()] == ["ES256"]
