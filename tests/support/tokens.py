"""Keys of every kind, tokens signed with them in every way, and key sets."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Json = dict[str, Any]


def b64(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def part(document: Any) -> str:
    """One part of a token: a document as JSON, or bytes as they are."""
    return b64(document if isinstance(document, bytes) else json.dumps(document).encode())


@dataclass(frozen=True, eq=False)
class Signer:
    """Something that signs with RS256, ES256 or HS256, whatever the header says."""

    algorithm: str
    key: Any

    def token(self, header: Any, claims: Any) -> str:
        """A token of exactly these parts, rightly signed."""
        text = f"{part(header)}.{part(claims)}"
        return f"{text}.{b64(self.sign(text.encode()))}"

    def sign(self, text: bytes) -> bytes:
        match self.algorithm:
            case "RS256":
                return cast("bytes", self.key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
            case "ES256":
                r, s = decode_dss_signature(self.der(text))
                return r.to_bytes(32, "big") + s.to_bytes(32, "big")
            case _:
                return hmac.digest(self.key, text, "sha256")

    def der(self, text: bytes) -> bytes:
        """An ECDSA signature in the form that JWS does not take."""
        return cast("bytes", self.key.sign(text, ec.ECDSA(hashes.SHA256())))

    @property
    def pem(self) -> str:
        """The public key."""
        public = self.key.public_key()
        return cast(
            "str", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")
        )

    def jwk(self, kid: str | None, **more: Any) -> Json:
        """The public key as an entry of a key set."""
        numbers = self.key.public_key().public_numbers()
        if self.algorithm == "RS256":
            fields = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        else:
            fields = {
                "kty": "EC",
                "crv": "P-256",
                "x": b64(numbers.x.to_bytes(32, "big")),
                "y": b64(numbers.y.to_bytes(32, "big")),
            }
        named = {} if kid is None else {"kid": kid}
        return {**fields, **named, **more}


def _number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@cache
def rs256(name: str = "one", bits: int = 2_048) -> Signer:
    """An RSA key, the same for the same name."""
    return Signer("RS256", rsa.generate_private_key(public_exponent=65_537, key_size=bits))


@cache
def es256(name: str = "one") -> Signer:
    """A key on P-256, the same for the same name."""
    return Signer("ES256", ec.generate_private_key(ec.SECP256R1()))


def hs256(secret: str | bytes) -> Signer:
    """A shared secret."""
    return Signer("HS256", secret if isinstance(secret, bytes) else secret.encode())


def key_set(*entries: Any) -> bytes:
    """A JSON Web Key Set."""
    return json.dumps({"keys": list(entries)}).encode()
