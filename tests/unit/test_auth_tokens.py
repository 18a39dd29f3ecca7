"""Tokens: forged ones in every way, strict claims, and a memory that forgets in time."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman.auth.principal import Role
from ferryman.auth.tokens import TokenRefusedError, TokenVerifier, hs256_key

SECRET = "a secret of more than thirty-two bytes, for tests only"
NOW = 1_800_000_000
CLAIMS: dict[str, Any] = {"tenant_id": "acme", "user_id": 7, "roles": ["user"], "exp": NOW + 60}


class HandClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = float(NOW)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


def verifier(clock: HandClock | None = None, **options: Any) -> TokenVerifier:
    return TokenVerifier(hs256_key(SECRET), clock or HandClock(), **options)


def part(document: Any) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token of exactly these bytes, rightly signed."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(hmac.new(secret.encode(), text.encode(), digest).digest())}"


def of(**changes: Any) -> str:
    """A token whose claims differ by these; None leaves one out."""
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    return signed({"alg": "HS256", "typ": "JWT"}, claims)


def test_a_good_token_names_its_bearer() -> None:
    principal = verifier().verify(jwt.encode(CLAIMS, SECRET, algorithm="HS256"))
    assert (principal.tenant_id, principal.user_id, principal.roles) == ("acme", 7, frozenset({Role.USER}))


def test_a_numeric_subject_stands_for_the_user() -> None:
    assert verifier().verify(of(user_id=None, sub="42")).user_id == 42


def test_unknown_roles_give_no_right() -> None:
    assert verifier().verify(of(roles=["root", "admin"])).roles == {Role.ADMIN}
    assert verifier().verify(of(roles=["root"])).roles == frozenset()
    assert verifier().verify(of(roles=None)).roles == frozenset()


def test_a_service_needs_no_tenant() -> None:
    principal = verifier().verify(of(tenant_id=None, user_id=None, roles=["service"], sub="system:operator"))
    assert (principal.tenant_id, principal.user_id, principal.subject) == (None, None, "system:operator")


HS = {"alg": "HS256", "typ": "JWT"}
FORGED = {
    "empty": "",
    "no token": "x",
    "two parts": "a.b",
    "four parts": of() + ".x",
    "five parts": "a.b.c.d.e",
    "not base64": "!!.??.**",
    "not ascii": of().replace("e", "é", 1),
    "huge": of(extra="x" * 10_000),
    "no signature": of().rpartition(".")[0] + ".",
    "signature cut": of()[:-1],
    "other secret": signed(HS, CLAIMS, "another secret, also of more than 32 bytes"),
    "alg none": signed({"alg": "none"}, CLAIMS),
    "alg None": signed({"alg": "None"}, CLAIMS),
    "alg missing": signed({"typ": "JWT"}, CLAIMS),
    "alg a list": signed({"alg": ["HS256"]}, CLAIMS),
    "alg hs256": signed({"alg": "hs256"}, CLAIMS),
    "alg HS512": signed({"alg": "HS512"}, CLAIMS, digest="sha512"),
    "alg RS256": signed({"alg": "RS256"}, CLAIMS),
    "header no object": signed([1], CLAIMS),
    "header no json": signed(b"{", CLAIMS),
    "header deep": signed(b"[" * 5_000, CLAIMS),
    "typ other": signed(HS | {"typ": "JWE"}, CLAIMS),
    "typ number": signed(HS | {"typ": 1}, CLAIMS),
    "kid number": signed(HS | {"kid": 1}, CLAIMS),
    "kid long": signed(HS | {"kid": "k" * 129}, CLAIMS),
    "jku": signed(HS | {"jku": "https://evil.example/keys"}, CLAIMS),
    "x5u": signed(HS | {"x5u": "https://evil.example/cert"}, CLAIMS),
    "jwk": signed(HS | {"jwk": {"kty": "oct", "k": "AA"}}, CLAIMS),
    "crit": signed(HS | {"crit": ["exp"]}, CLAIMS),
    "b64": signed(HS | {"b64": False, "crit": ["b64"]}, CLAIMS),
    "zip": signed(HS | {"zip": "DEF"}, CLAIMS),
    "claims no object": signed(HS, [1]),
    "claims no json": signed(HS, b"{"),
    "claims twice": signed(
        HS, b'{"tenant_id":"acme","user_id":7,"roles":["user"],"roles":["admin"],"exp":1800000060}'
    ),
    "claims with NUL": of(tenant_id="ac\x00me"),
    "exp missing": of(exp=None),
    "exp past": of(exp=NOW - 60),
    "exp float": of(exp=NOW + 60.5),
    "exp text": of(exp=str(NOW + 60)),
    "exp true": of(exp=True),
    "exp huge": signed(HS, b'{"tenant_id":"acme","user_id":7,"roles":["user"],"exp":1e400}'),
    "nbf ahead": of(nbf=NOW + 60),
    "nbf text": of(nbf="0"),
    "iat ahead": of(iat=NOW + 60),
    "tenant missing": of(tenant_id=None),
    "tenant empty": of(tenant_id=""),
    "tenant long": of(tenant_id="t" * 51),
    "tenant number": of(tenant_id=7),
    "tenant list": of(tenant_id=["acme"]),
    "tenant line": of(tenant_id="acme\nglobex"),
    "tenant padded": of(tenant_id=" acme"),
    "user missing": of(user_id=None),
    "user true": of(user_id=True),
    "user text": of(user_id="7"),
    "user float": of(user_id=7.0),
    "user negative": of(user_id=-1),
    "user large": of(user_id=2**31),
    "user 2^63": of(user_id=2**63),
    "subject no number": of(user_id=None, sub="7 "),
    "subject digits elsewhere": of(user_id=None, sub="\N{ARABIC-INDIC DIGIT SEVEN}"),
    "subject number": of(user_id=None, sub=7),
    "roles text": of(roles="admin"),
    "roles object": of(roles={"admin": True}),
    "roles numbers": of(roles=[1]),
    "roles many": of(roles=["user"] * 33),
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_refused(token: str) -> None:
    with pytest.raises(TokenRefusedError):
        verifier().verify(token)


@pytest.mark.parametrize(
    ("claims", "fits"),
    [
        ({"iss": "https://id.example", "aud": "ferryman"}, True),
        ({"iss": "https://id.example", "aud": ["other", "ferryman"]}, True),
        ({"iss": "https://id.example"}, False),
        ({"aud": "ferryman"}, False),
        ({"iss": "https://id.example", "aud": ["other"]}, False),
        ({"iss": "https://id.example", "aud": [7]}, False),
        ({"iss": ["https://id.example"], "aud": "ferryman"}, False),
        ({"iss": "https://id.example/", "aud": "ferryman"}, False),
    ],
)
def test_issuer_and_audience_when_configured(claims: dict[str, Any], fits: bool) -> None:
    strict = verifier(issuer="https://id.example", audience="ferryman")
    if fits:
        strict.verify(of(**claims))
    else:
        with pytest.raises(TokenRefusedError):
            strict.verify(of(**claims))


def test_a_remembered_token_ends_with_its_time_and_leeway() -> None:
    clock = HandClock()
    known, token = verifier(clock, leeway_seconds=10), of()
    known.verify(token)
    clock.seconds = NOW + 69
    known.verify(token)
    clock.seconds = NOW + 70
    with pytest.raises(TokenRefusedError):
        known.verify(token)


def test_no_more_tokens_are_remembered_than_allowed() -> None:
    small = verifier(remembered=3)
    for number in range(10):
        small.verify(of(user_id=number))
    assert len(small._known) == 3


@pytest.mark.parametrize(
    "secret",
    [
        "short",
        "-----BEGIN PUBLIC KEY-----\n" + "A" * 64,
        '{"kty":"RSA","n":"' + "A" * 40,
        "ssh-rsa " + "A" * 64,
    ],
)
def test_a_secret_that_is_none(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        hs256_key(secret)


def test_leeway_is_bounded() -> None:
    with pytest.raises(ValueError, match="leeway"):
        verifier(leeway_seconds=31)


anything = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=3)
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["tenant_id", "user_id", "roles", "exp", "nbf", "iat", "aud", "sub"]), anything
    )
)
def test_any_claims_are_taken_or_refused(changes: dict[str, Any]) -> None:
    token = signed(HS, CLAIMS | changes)
    try:
        principal = verifier().verify(token)
    except TokenRefusedError:
        return
    assert principal.tenant_id is None or 0 < len(principal.tenant_id) <= 50
    assert principal.user_id is None or 0 <= principal.user_id < 2**31
    assert hashlib.sha256(token.encode()).digest()
