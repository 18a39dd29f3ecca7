"""Configured keys: the algorithm follows from the kind, and what is no public key is refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ferryman.auth.keys import hs256_key, public_key
from tests.support.tokens import es256, key_set, rs256


def test_the_algorithm_follows_from_the_kind_of_key() -> None:
    assert public_key(rs256().pem).algorithm == "RS256"
    assert public_key(f"\n{es256().pem}\n").algorithm == "ES256"


def private_pem() -> str:
    return str(es256().key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "ascii")


def pem_of(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        private_pem(),
        private_pem() + es256().pem,
        rs256("small", 1_024).pem,
        pem_of(ec.generate_private_key(ec.SECP384R1()).public_key()),
        pem_of(ec.generate_private_key(ec.SECP256K1()).public_key()),
        pem_of(ed25519.Ed25519PrivateKey.generate().public_key()),
    ],
)
def test_what_is_no_public_key_of_ours_is_refused(pem: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        public_key(pem)


@pytest.mark.parametrize(
    "secret",
    [
        rs256().pem,
        es256().pem,
        private_pem(),
        key_set(rs256().jwk("k")).decode(),
        "ecdsa-sha2-nistp256 " + "A" * 64,
    ],
    ids=["RSA PEM", "EC PEM", "private PEM", "JWKS", "SSH"],
)
def test_a_key_of_another_kind_is_no_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="would be no secret"):
        hs256_key(secret)
