"""Verified tokens: configured keys, each for one algorithm, strict claims, and one and the same refusal.

A token says nothing about how it is to be checked: the algorithm comes with the key, and of its header only
`kid` is read, to look the key up. What was verified is remembered by its hash until it expires or the keys
change, because checking a signature costs as much as half a submission.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from typing import Final, NoReturn

import jwt

from ferryman.auth.keys import ALGORITHMS, KeySource, TokenRefusedError, UnknownKeyError, hs256_key
from ferryman.auth.principal import MAX_USER_ID, Principal, Role, is_tenant_id
from ferryman.core.documents import DocumentError, check
from ferryman.ports import Clock

MAX_LEEWAY_SECONDS: Final = 30
MAX_TOKEN_CHARS: Final = 8_192
_MAX_KID_CHARS: Final = 128
_MAX_ROLES: Final = 32
_MAX_SUBJECT_CHARS: Final = 100
_HEADER_NAMES: Final = frozenset({"alg", "typ", "kid"})
_OUR_CLAIMS: Final = frozenset({"tenant_id", "user_id", "roles"})
_TENANTLESS: Final = frozenset({Role.SERVICE, Role.PLATFORM})


class TokenVerifier:
    """Checks tokens and remembers those that passed, at most `remembered` of them.

    `service_subjects`: tokens of exactly these subjects that claim no tenant, user or roles have the role
    service, as the projected tokens of Kubernetes' service accounts, which can carry no claims of ours.
    """

    def __init__(
        self,
        keys: KeySource,
        clock: Clock,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        service_subjects: Collection[str] = (),
        leeway_seconds: int = 10,
        remembered: int = 10_000,
    ) -> None:
        if not 0 <= leeway_seconds <= MAX_LEEWAY_SECONDS:
            raise ValueError(f"leeway takes 0 to {MAX_LEEWAY_SECONDS} seconds, got {leeway_seconds}")
        self._keys = keys
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._service_subjects = frozenset(service_subjects)
        self._leeway = leeway_seconds
        self._remembered = remembered
        self._known: OrderedDict[bytes, tuple[float, int, Principal]] = OrderedDict()
        self._jws = jwt.PyJWS(algorithms=list(ALGORITHMS))

    async def authenticate(self, token: str) -> Principal:
        """Whose token this is, looking for new keys when it names an unknown one. Awaits nothing otherwise.

        Raises TokenRefusedError, KeysUnavailableError.
        """
        try:
            return self.verify(token)
        except UnknownKeyError:
            await self._keys.renew()
            return self.verify(token)

    def verify(self, token: str) -> Principal:
        """Whose token this is, by the keys that are at hand. Raises TokenRefusedError."""
        now, generation = self._clock.now().timestamp(), self._keys.generation
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        if (known := self._known.get(digest)) is not None:
            if now < known[0] and generation == known[1]:
                self._known.move_to_end(digest)
                return known[2]
            del self._known[digest]
        claims = self._claims(token)
        ends_at = self._check_times(claims, now)
        self._check_origin(claims)
        principal = self._principal(claims)
        self._remember(digest, ends_at, generation, principal)
        return principal

    def _principal(self, claims: dict[str, object]) -> Principal:
        subject = claims.get("sub")
        if isinstance(subject, str) and subject in self._service_subjects and _OUR_CLAIMS.isdisjoint(claims):
            return _principal({"sub": subject, "roles": [Role.SERVICE.value]})
        return _principal(claims)

    def _remember(self, digest: bytes, ends_at: float, generation: int, principal: Principal) -> None:
        self._known[digest] = (ends_at, generation, principal)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def _claims(self, token: str) -> dict[str, object]:
        if len(token) > MAX_TOKEN_CHARS or token.count(".") != 2 or not token.isascii():
            _refuse("it is no compact JWS")
        try:
            key = self._keys.find(_kid(self._jws.get_unverified_header(token)))
            payload = self._jws.decode(token, key.key, algorithms=[key.algorithm])
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


def _kid(header: dict[str, object]) -> str | None:
    """The name of the key, once the rest of the header was found harmless."""
    if not header.keys() <= _HEADER_NAMES:
        _refuse("its header has more than alg, typ and kid")
    kid = header.get("kid")
    if "kid" in header and (not isinstance(kid, str) or len(kid) > _MAX_KID_CHARS):
        _refuse("kid is malformed")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() not in ("JWT", "AT+JWT"):
        _refuse("it is no JWT")
    return kid if isinstance(kid, str) else None


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


__all__ = ["TokenRefusedError", "TokenVerifier", "hs256_key"]
