"""Verified tokens: one configured key, one algorithm, strict claims, and one and the same refusal.

A token says nothing about how it is to be checked: the algorithm comes from the configuration, and of its
header only `kid` is read. What was verified is remembered by its hash until it expires, because checking a
signature costs as much as half a submission.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final, Literal, NoReturn

import jwt
import msgspec

from ferryman.auth.principal import MAX_USER_ID, Principal, Role, is_tenant_id
from ferryman.core.documents import DocumentError, check
from ferryman.ports import Clock

MIN_SECRET_BYTES: Final = 32
MAX_LEEWAY_SECONDS: Final = 30
MAX_TOKEN_CHARS: Final = 8_192
_MAX_KID_CHARS: Final = 128
_MAX_ROLES: Final = 32
_MAX_SUBJECT_CHARS: Final = 100
_HEADER_NAMES: Final = frozenset({"alg", "typ", "kid"})
_TENANTLESS: Final = frozenset({Role.SERVICE, Role.PLATFORM})


class TokenRefusedError(Exception):
    """The token does not prove who asks. Why is for the log alone; the answer is always the same."""


class VerificationKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key and the one algorithm that it is for."""

    algorithm: Literal["HS256"]
    key: bytes


def hs256_key(secret: str) -> VerificationKey:
    """The key of a shared secret. Raises ValueError when it is too short or a key of another kind."""
    raw = secret.encode("utf-8")
    if len(raw) < MIN_SECRET_BYTES:
        raise ValueError(f"an HS256 secret takes at least {MIN_SECRET_BYTES} bytes, got {len(raw)}")
    if "-----BEGIN" in secret or secret.lstrip().startswith(("{", "ssh-")):
        raise ValueError("an HS256 secret is no PEM, JWK or SSH key: a public key would be no secret at all")
    return VerificationKey(algorithm="HS256", key=raw)


class TokenVerifier:
    """Checks tokens and remembers those that passed, at most `remembered` of them."""

    def __init__(
        self,
        key: VerificationKey,
        clock: Clock,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway_seconds: int = 10,
        remembered: int = 10_000,
    ) -> None:
        if not 0 <= leeway_seconds <= MAX_LEEWAY_SECONDS:
            raise ValueError(f"leeway takes 0 to {MAX_LEEWAY_SECONDS} seconds, got {leeway_seconds}")
        self._key = key
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway_seconds
        self._remembered = remembered
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._jws = jwt.PyJWS(algorithms=[key.algorithm])

    def verify(self, token: str) -> Principal:
        """Whose token this is. Raises TokenRefusedError."""
        now = self._clock.now().timestamp()
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        if (known := self._known.get(digest)) is not None:
            if now < known[0]:
                self._known.move_to_end(digest)
                return known[1]
            del self._known[digest]
        claims = self._claims(token)
        ends_at = self._check_times(claims, now)
        self._check_origin(claims)
        principal = _principal(claims)
        self._remember(digest, ends_at, principal)
        return principal

    def _remember(self, digest: bytes, ends_at: float, principal: Principal) -> None:
        self._known[digest] = (ends_at, principal)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def _claims(self, token: str) -> dict[str, object]:
        if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2 or not token.isascii():
            _refuse("it is no compact JWS")
        try:
            _check_header(self._jws.get_unverified_header(token))
            payload = self._jws.decode(token, self._key.key, algorithms=[self._key.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefusedError(type(error).__name__) from None
        return _object(payload, "claims")

    def _check_times(self, claims: dict[str, object], now: float) -> float:
        """Until when the token may be remembered, in Unix seconds."""
        ends_at = _instant(claims, "exp")
        if ends_at is None or ends_at + self._leeway <= now:
            _refuse("it has expired" if ends_at is not None else "it never expires")
        for name in ("nbf", "iat"):
            if (starts_at := _instant(claims, name)) is not None and starts_at > now + self._leeway:
                _refuse("it is not valid yet")
        return ends_at + self._leeway

    def _check_origin(self, claims: dict[str, object]) -> None:
        if self._issuer is not None and claims.get("iss") != self._issuer:
            _refuse("it is of another issuer")
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not all(name is None or isinstance(name, str) for name in audiences):
            _refuse("aud is malformed")
        if self._audience is not None and self._audience not in audiences:
            _refuse("it is for another audience")


def _check_header(header: dict[str, object]) -> None:
    if not header.keys() <= _HEADER_NAMES:
        _refuse("its header has more than alg, typ and kid")
    kid = header.get("kid", "")
    if not isinstance(kid, str) or len(kid) > _MAX_KID_CHARS:
        _refuse("kid is malformed")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() not in ("JWT", "AT+JWT"):
        _refuse("it is no JWT")


def _object(raw: bytes, name: str) -> dict[str, object]:
    try:
        document = check(raw)
    except DocumentError:
        _refuse(f"{name} are malformed")
    if not isinstance(document, dict):
        _refuse(f"{name} are no object")
    return document


def _instant(claims: dict[str, object], name: str) -> int | None:
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if type(value) is not int or not 0 <= value < 2**53:
        _refuse(f"{name} is malformed")
    return value


def _principal(claims: dict[str, object]) -> Principal:
    roles = _roles(claims)
    tenant_id, user_id = _tenant_id(claims), _user_id(claims)
    if not (roles and roles <= _TENANTLESS) and (tenant_id is None or user_id is None):
        _refuse("it names no tenant and user")
    return Principal(subject=_subject(claims, user_id), tenant_id=tenant_id, user_id=user_id, roles=roles)


def _roles(claims: dict[str, object]) -> frozenset[Role]:
    """The known roles; unknown ones give no right."""
    given = claims.get("roles", [])
    if not isinstance(given, list) or len(given) > _MAX_ROLES or not all(isinstance(r, str) for r in given):
        _refuse("roles are malformed")
    return frozenset(role for role in Role if role in given)


def _tenant_id(claims: dict[str, object]) -> str | None:
    value = claims.get("tenant_id")
    if value is None and "tenant_id" not in claims:
        return None
    if not isinstance(value, str) or not is_tenant_id(value):
        _refuse("tenant_id is malformed")
    return value


def _user_id(claims: dict[str, object]) -> int | None:
    """`user_id` when it is there; a numeric `sub` otherwise."""
    if "user_id" in claims:
        value = claims["user_id"]
        if type(value) is not int or not 0 <= value <= MAX_USER_ID:
            _refuse("user_id is malformed")
        return value
    subject = claims.get("sub")
    if isinstance(subject, str) and subject.isascii() and subject.isdigit() and len(subject) <= 10:
        number = int(subject)
        return number if number <= MAX_USER_ID else None
    return None


def _subject(claims: dict[str, object], user_id: int | None) -> str:
    """What the audit calls the bearer: the user's number, else the subject."""
    subject = claims.get("sub")
    if subject is not None and not isinstance(subject, str):
        _refuse("sub is malformed")
    if user_id is not None:
        return str(user_id)
    if not subject or not subject.isprintable():
        return "unnamed"
    return subject[:_MAX_SUBJECT_CHARS]


def _refuse(why: str) -> NoReturn:
    raise TokenRefusedError(why)
