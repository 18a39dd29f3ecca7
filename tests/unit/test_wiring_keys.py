"""What the settings say of keys, made into the keys that tokens are checked by."""

from typing import Any

import pytest

from ferryman import wiring
from ferryman.auth.jwks import JwksKeys
from ferryman.auth.keys import VerificationKey
from ferryman.settings import SettingsError
from ferryman.settings.processes import IdentitySettings
from ferryman.telemetry.metrics import Metrics
from tests.support.tokens import es256, rs256


def keys_of(**given: Any) -> object:
    nothing = {"secret": None, "public_key": None, "jwks_url": None, "issuer": None, "audience": None}
    return wiring._keys(IdentitySettings(**(nothing | given)), Metrics())


@pytest.mark.parametrize(
    ("given", "algorithm"),
    [
        ({"secret": "s" * 32}, "HS256"),
        ({"public_key": rs256().pem}, "RS256"),
        ({"public_key": es256().pem}, "ES256"),
    ],
)
def test_one_key_has_one_algorithm(given: dict[str, str], algorithm: str) -> None:
    key = keys_of(**given)
    assert isinstance(key, VerificationKey)
    assert key.algorithm == algorithm


def test_an_address_is_not_asked_at_once() -> None:
    keys = keys_of(jwks_url="https://id.example/jwks")
    assert isinstance(keys, JwksKeys)
    assert keys.generation == 0


@pytest.mark.parametrize(
    "given",
    [
        {"public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"},
        {"secret": "ssh-rsa " + "A" * 40},
        {"jwks_url": "https://id.example/jwks", "jwks_ca": "/no/such/file"},
    ],
)
def test_a_key_that_is_none_stops_the_process_with_a_word(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="cannot be taken"):
        keys_of(**given)


def test_only_a_secret_signs() -> None:
    identity = IdentitySettings(
        secret=None, public_key=es256().pem, jwks_url=None, issuer=None, audience=None
    )
    with pytest.raises(SettingsError, match="only it can sign"):
        wiring.mint_token(identity, "acme", 1, ["user"], ttl_seconds=60)
