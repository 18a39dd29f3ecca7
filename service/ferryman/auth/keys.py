"""Keys that tokens are checked by: each is for one algorithm, which follows from its kind alone."""

from __future__ import annotations

import base64
import re
from typing import Final, Literal, Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MIN_SECRET_BYTES: Final = 32
_MIN_RSA_BITS: Final = 2_048
_MAX_RSA_BITS: Final = 8_192  # checking with a larger one would cost too much
_MAX_EXPONENT: Final = 2**32
_EC_BYTES: Final = 32
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
# Of a secret or private key; who publishes one has no key any more.
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Algorithm = Literal["HS256", "RS256", "ES256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("HS256", "RS256", "ES256")


class TokenRefusedError(Exception):
    """The token does not prove who asks. Why is for the log alone; the answer is always the same."""


class UnknownKeyError(TokenRefusedError):
    """The token names a key that is not among those that are known."""


class KeysUnavailableError(Exception):
    """There are no keys yet to check any token by: they could not be fetched."""


class KeySource(Protocol):
    """Where a verifier has its keys from."""

    @property
    def generation(self) -> int:
        """Another number after each change: what was checked before is to be checked again."""

    def find(self, kid: str | None) -> VerificationKey:
        """The key that a token's header names. Raises UnknownKeyError."""

    async def renew(self) -> None:
        """Look for new keys, when that is worth while. Raises KeysUnavailableError when there are none."""


class VerificationKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key and the one algorithm that it is for. By itself it is the simplest source of keys."""

    algorithm: Algorithm
    key: bytes | RSAPublicKey | EllipticCurvePublicKey

    @property
    def generation(self) -> int:
        return 0

    def find(self, kid: str | None) -> VerificationKey:
        """The key itself, whatever the token calls it."""
        return self

    async def renew(self) -> None:
        """There never is another one."""


def hs256_key(secret: str) -> VerificationKey:
    """The key of a shared secret. Raises ValueError when it is too short or a key of another kind."""
    raw = secret.encode("utf-8")
    if len(raw) < MIN_SECRET_BYTES:
        raise ValueError(f"an HS256 secret takes at least {MIN_SECRET_BYTES} bytes, got {len(raw)}")
    if "-----BEGIN" in secret or secret.lstrip().startswith(("{", "[", "ssh-", "ecdsa-")):
        raise ValueError("an HS256 secret is no PEM, JWK or SSH key: a public key would be no secret at all")
    return VerificationKey(algorithm="HS256", key=raw)


def public_key(pem: str) -> VerificationKey:
    """The key of a PEM with a public key or a certificate: RSA for RS256, the curve P-256 for ES256.

    Raises ValueError for anything else, a private key among it.
    """
    if "PRIVATE KEY-----" in pem:
        raise ValueError("this is a private key; tokens are checked by the public one")
    raw = pem.strip().encode("utf-8")
    try:
        if "-----BEGIN CERTIFICATE-----" in pem:
            return _of_key(x509.load_pem_x509_certificate(raw).public_key())
        return _of_key(load_pem_public_key(raw))
    except UnsupportedAlgorithm:
        raise ValueError("this kind of key is not known") from None


def key_of_jwk(jwk: object) -> tuple[str | None, VerificationKey] | None:
    """The `kid` and the key of one entry of a JSON Web Key Set; None for an entry that is of no use here:
    another kind, another algorithm, not for signatures, malformed, or not public.
    """
    if not isinstance(jwk, dict) or not _PRIVATE_MEMBERS.isdisjoint(jwk):
        return None
    kid = jwk.get("kid")
    if not (kid is None or isinstance(kid, str)) or not _is_for_signatures(jwk):
        return None
    try:
        key = _of_key(_numbers(jwk))
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm):
        return None
    return (kid, key) if jwk.get("alg", key.algorithm) == key.algorithm else None


def _is_for_signatures(jwk: dict[str, object]) -> bool:
    operations = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations


def _numbers(jwk: dict[str, object]) -> RSAPublicKey | EllipticCurvePublicKey:
    if jwk["kty"] == "RSA":
        modulus, exponent = _number(jwk["n"], _MAX_RSA_BITS // 8), _number(jwk["e"], 8)
        _check_size(modulus.bit_length(), exponent)
        return RSAPublicNumbers(exponent, modulus).public_key()
    if jwk["kty"] == "EC" and jwk["crv"] == "P-256":
        x, y = _number(jwk["x"], _EC_BYTES), _number(jwk["y"], _EC_BYTES)
        return EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    raise ValueError("another kind of key")


def _number(text: object, most_bytes: int) -> int:
    """An integer as JWKs write it: big-endian bytes in base64url without padding."""
    if not isinstance(text, str) or len(text) > most_bytes * 4 // 3 + 2 or not _BASE64URL.fullmatch(text):
        raise ValueError("no number, or too long")
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def _of_key(key: object) -> VerificationKey:
    if isinstance(key, RSAPublicKey):
        _check_size(key.key_size, key.public_numbers().e)
        return VerificationKey(algorithm="RS256", key=key)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return VerificationKey(algorithm="ES256", key=key)
    raise ValueError("keys are RSA of 2048 to 8192 bits, or EC on the curve P-256")


def _check_size(bits: int, exponent: int) -> None:
    if not _MIN_RSA_BITS <= bits <= _MAX_RSA_BITS or not 3 <= exponent < _MAX_EXPONENT:
        raise ValueError("an RSA key has 2048 to 8192 bits and a small exponent")
