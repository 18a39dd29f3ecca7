"""The way to the API that commands share."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from ferryman.client import Client
    from ferryman.settings.processes import IdentitySettings

T = TypeVar("T")

DEVELOPMENT_TENANT: Final = "acme"
DEVELOPMENT_USER: Final = 1
PERSON: Final = ("user", "admin", "platform")
SERVICE: Final = ("service",)
_MINTED_SECONDS: Final = 900


def add_tenant_option(parser: argparse.ArgumentParser) -> None:
    """`--tenant`, for tokens of role service, which belong to no tenant."""
    parser.add_argument("--tenant", metavar="T", help="act for this tenant; for tokens with the role service")


def with_client(
    arguments: argparse.Namespace, roles: Sequence[str], work: Callable[[Client], Awaitable[T]]
) -> T:
    """Carry out `work` with a client of the API that FERRYMAN_API_URL names.

    The token is FERRYMAN_TOKEN; where that is not set but FERRYMAN_JWT_SECRET is, as on a development
    machine, one with `roles` is made for this call.
    """
    import asyncio

    return asyncio.run(_with_client(getattr(arguments, "tenant", None), roles, work))


async def _with_client(tenant: str | None, roles: Sequence[str], work: Callable[[Client], Awaitable[T]]) -> T:
    from ferryman.client import Client
    from ferryman.settings import this_environment
    from ferryman.settings.processes import access_settings

    access = access_settings(this_environment())
    token, headers = access.token, {"X-Tenant-Id": tenant} if tenant else {}
    if token is None and access.signing is not None:
        token = _minted(access.signing, tenant, roles)
        # A token that was made for the tenant need not say it twice; a service's belongs to none.
        headers = headers if roles == SERVICE else {}
    async with Client(access.url, token, headers=headers) as client:
        return await work(client)


def _minted(signing: IdentitySettings, tenant: str | None, roles: Sequence[str]) -> str:
    from ferryman.wiring import mint_token

    if roles == SERVICE:
        return mint_token(signing, None, None, roles, ttl_seconds=_MINTED_SECONDS)
    return mint_token(
        signing, tenant or DEVELOPMENT_TENANT, DEVELOPMENT_USER, roles, ttl_seconds=_MINTED_SECONDS
    )
