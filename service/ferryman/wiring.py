"""Where the parts are put together: the only place that knows concrete classes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ferryman.settings.environment import SettingsError
from ferryman.settings.processes import IdentitySettings


def mint_token(
    identity: IdentitySettings,
    tenant_id: str | None,
    user_id: int | None,
    roles: Sequence[str],
    *,
    ttl_seconds: int,
) -> str:
    """A token that an API with these settings takes. Raises SettingsError without a secret."""
    from ferryman.auth.minting import mint

    return mint(
        required_secret(identity),
        tenant_id=tenant_id,
        user_id=user_id,
        roles=roles,
        now_s=int(time.time()),
        ttl_s=ttl_seconds,
        issuer=identity.issuer,
        audience=identity.audience,
    )


def required_secret(identity: IdentitySettings) -> str:
    """The shared secret. Raises SettingsError when tokens are to be checked in another way."""
    if identity.secret is None:
        raise SettingsError(
            "tokens are checked by FERRYMAN_JWT_SECRET alone in this version",
            "Unset FERRYMAN_JWT_PUBLIC_KEY and FERRYMAN_JWKS_URL, and set the secret.",
        )
    return identity.secret
