"""Forged tokens in every mode of checking them: 401, with one and the same body."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ferryman.auth.fetching import Fetcher
from ferryman.auth.jwks import JwksKeys
from ferryman.auth.keys import KeySource, hs256_key, public_key
from ferryman.auth.tokens import TokenVerifier
from ferryman.telemetry.metrics import Metrics
from tests.support.api import SECRET, Api, SystemClock, running
from tests.support.fakes import FakeDispatcher, FakeLedger
from tests.support.key_servers import KeyServer, key_server, saying
from tests.support.tokens import Signer, b64, es256, hs256, key_set, part, rs256

ISSUER, AUDIENCE, KID = "https://id.example", "ferryman", "current"
NOW = int(time.time())
CLAIMS: dict[str, Any] = {
    "tenant_id": "acme", "user_id": 7, "roles": ["user"], "exp": NOW + 3_600, "iss": ISSUER, "aud": AUDIENCE,
}  # fmt: skip
# How tokens are checked, and who signs rightly then.
MODES: Mapping[str, Signer] = {
    "secret": hs256(SECRET),
    "RSA public key": rs256(),
    "EC public key": es256(),
    "key set": rs256(),
}
JWKS = key_set(rs256().jwk(KID), es256().jwk("other"), {"kty": "oct", "kid": "oct", "k": b64(b"x" * 32)})


def forged(signer: Signer, evil: str) -> dict[str, str]:
    """Tokens that must not pass where `signer` signs rightly. `evil` is an address in the forger's hand."""
    right = {"alg": signer.algorithm, "typ": "JWT", "kid": KID}
    stranger = {"RS256": rs256("stranger"), "ES256": es256("stranger"), "HS256": hs256(b"s" * 40)}
    mine = stranger[signer.algorithm]
    good = signer.token(right, CLAIMS)
    head, body, signature = good.split(".")

    def of(**changes: Any) -> str:
        return signer.token(right, {k: v for k, v in (CLAIMS | changes).items() if v is not None})

    def headed(by: Signer = signer, **changes: Any) -> str:
        return by.token({k: v for k, v in (right | changes).items() if v is not None}, CLAIMS)

    public = rs256() if signer.algorithm == "HS256" else signer
    return {
        "a word": "x",
        "two parts": f"{head}.{body}",
        "four parts": f"{good}.x",
        "encrypted, five parts": "a.b.c.d.e",
        "not base64": "!!.??.**",
        "no signature": f"{head}.{body}.",
        "signature cut": good[:-2],
        "signature of another token": f"{head}.{part(CLAIMS | {'roles': ['admin']})}.{signature}",
        "signature of zeroes": f"{head}.{body}.{b64(bytes(64))}",
        "signature in DER": f"{head}.{body}.{b64(es256().der(f'{head}.{body}'.encode()))}",
        "key of another": headed(mine),
        "alg none": f"{part({'alg': 'none'})}.{body}.",
        "alg NoNe": f"{part({'alg': 'NoNe'})}.{body}.",
        "alg none, signed": headed(alg="none"),
        "alg missing": headed(alg=None),
        "alg a list": headed(alg=[signer.algorithm]),
        "alg in small letters": headed(alg=signer.algorithm.lower()),
        "alg HS384": headed(alg="HS384"),
        "alg PS256": headed(alg="PS256"),
        "alg ES384": headed(alg="ES384"),
        "alg EdDSA": headed(alg="EdDSA"),
        "public key as secret": headed(hs256(public.pem), alg="HS256"),
        "public key as secret, without its last line end": headed(hs256(public.pem.strip()), alg="HS256"),
        "JWK as secret": headed(hs256(json.dumps(public.jwk(KID))), alg="HS256"),
        "key set as secret": headed(hs256(JWKS), alg="HS256"),
        "symmetric key of the set": headed(hs256(b"x" * 32), alg="HS256", kid="oct"),
        "RS256 of a stranger": headed(rs256("stranger"), alg="RS256"),
        "ES256 of a stranger": headed(es256("stranger"), alg="ES256"),
        "own algorithm, stranger's key, no kid": headed(mine, kid=None),
        "header no object": signer.token([1], CLAIMS),
        "header no JSON": signer.token(b"{", CLAIMS),
        "header deep": signer.token(b"[" * 3_000, CLAIMS),
        "typ other": headed(typ="JWE"),
        "kid a number": headed(kid=1),
        "kid long": headed(kid="k" * 129),
        "kid null": signer.token(right | {"kid": None}, CLAIMS),
        "kid a path": headed(mine, kid="../../../dev/null"),
        "kid an injection": headed(mine, kid="' UNION SELECT 'k' --"),
        "kid an address": headed(mine, kid=f"{evil}/kid"),
        "jku": headed(mine, jku=f"{evil}/jku"),
        "x5u": headed(mine, x5u=f"{evil}/x5u"),
        "jwk": headed(es256("stranger"), alg="ES256", jwk=es256("stranger").jwk(KID)),
        "x5c": headed(mine, x5c=["AAAA"]),
        "crit": headed(crit=["exp"]),
        "b64": headed(b64=False, crit=["b64"]),
        "zip": headed(zip="DEF"),
        "claims no object": signer.token(right, [1]),
        "claims no JSON": signer.token(right, b"{"),
        "role given twice": signer.token(
            right, json.dumps(CLAIMS).encode()[:-1] + b',"roles":["admin"]}'
        ),
        "exp missing": of(exp=None),
        "exp past": of(exp=NOW - 60),
        "exp a fraction": of(exp=NOW + 60.5),
        "exp text": of(exp=str(NOW + 60)),
        "nbf ahead": of(nbf=NOW + 600),
        "iat ahead": of(iat=NOW + 600),
        "another issuer": of(iss=ISSUER + "/"),
        "no issuer": of(iss=None),
        "another audience": of(aud=["other"]),
        "no audience": of(aud=None),
        "tenant empty": of(tenant_id=""),
        "tenant of 51": of(tenant_id="t" * 51),
        "user true": of(user_id=True),
        "user 2^63": of(user_id=2**63),
        "roles text": of(roles="admin"),
    }  # fmt: skip


@asynccontextmanager
async def api_in(mode: str, server: KeyServer) -> AsyncIterator[Api]:
    """An API that checks tokens in this mode, and asks `server` for its key set."""
    server.handle = saying(JWKS)
    clock = SystemClock()
    sources: dict[str, Callable[[], KeySource]] = {
        "secret": lambda: hs256_key(SECRET),
        "RSA public key": lambda: public_key(rs256().pem),
        "EC public key": lambda: public_key(es256().pem),
        "key set": lambda: JwksKeys(Fetcher(f"{server.url}/keys"), clock, Metrics()),
    }
    verifier = TokenVerifier(sources[mode](), clock, issuer=ISSUER, audience=AUDIENCE)
    async with running(FakeLedger().as_port(), FakeDispatcher().as_port(), verifier=verifier) as api:
        yield api


@pytest.mark.parametrize("mode", MODES)
async def test_every_forged_token_gets_the_one_answer(mode: str) -> None:
    async with key_server() as server, api_in(mode, server) as api:
        tokens = forged(MODES[mode], server.url)
        assert len(tokens) >= 40
        answers: dict[tuple[int, str, str], list[str]] = {}
        for name, token in tokens.items():
            reply = await api.call("GET", "/api/me", bearer=token, headers={"X-Correlation-Id": "same"})
            answer = (
                reply.status,
                reply.text,
                reply.headers["WWW-Authenticate"] if reply.status == 401 else "",
            )
            answers.setdefault(answer, []).append(name)
        assert [status for status, _, _ in answers] == [401], answers
        # The server of the key set was asked for that, once; nothing a token names was asked for.
        assert server.asked == (["/keys"] if mode == "key set" else [])


@pytest.mark.parametrize("mode", MODES)
async def test_the_right_token_passes(mode: str) -> None:
    async with key_server() as server, api_in(mode, server) as api:
        token = MODES[mode].token({"alg": MODES[mode].algorithm, "kid": KID}, CLAIMS)
        calls: list[Awaitable[Any]] = [api.call("GET", "/api/me", bearer=token) for _ in range(20)]
        replies = await asyncio.gather(*calls)
        assert {reply.status for reply in replies} == {200}
        assert replies[0].json["tenantId"] == "acme"
        assert "job.change:own" in replies[0].json["can"]
        assert "job.change:tenant" not in replies[0].json["can"]


async def test_keys_that_cannot_be_had_are_no_refusal() -> None:
    async with key_server() as server, api_in("key set", server) as api:
        server.handle = saying(b"gone")
        token = MODES["key set"].token({"alg": "RS256", "kid": KID}, CLAIMS)
        reply = await api.call("GET", "/api/me", bearer=token)
        assert (reply.status, reply.code, reply.headers["Retry-After"]) == (503, "keys_unavailable", "5")
