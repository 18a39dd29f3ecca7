"""The one policy: may this principal do that, to whose rows, and in what name? Pure.

`may` answers for one call and one ownership; `scope_of` derives from it whose rows a call may touch at all.
Who is refused a row by its scope gets the same 404 as for a row that does not exist.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from ferryman.auth.principal import Principal, Role
from ferryman.core.job import ActorKind
from ferryman.ports import Scope


class Call(StrEnum):
    """What can be asked for, by right; several routes may share one."""

    JOB_SUBMIT = "job.submit"
    JOB_READ = "job.read"
    JOB_CHANGE = "job.change"
    STATS_READ = "stats.read"
    LETTER_READ = "letter.read"
    LETTER_REQUEUE = "letter.requeue"
    LETTER_DISCARD = "letter.discard"
    RETENTION = "retention"
    RECONCILE = "reconcile"
    FIGURES_READ = "figures.read"
    QUEUE_READ = "queue.read"
    QUEUE_CHANGE = "queue.change"
    WORKER_READ = "worker.read"
    WORKER_DRAIN = "worker.drain"
    WORKER_DISMISS = "worker.dismiss"
    AUDIT_READ = "audit.read"
    EVENT_READ = "event.read"
    WEBHOOK = "webhook.manage"
    ME_READ = "me.read"


class Ownership(StrEnum):
    """How what is touched stands to the principal."""

    OWN = "own"  # the principal's own row
    TENANT = "tenant"  # of the same tenant, somebody else's or everybody's
    FOREIGN = "foreign"  # of one other tenant
    ALL = "all"  # across all tenants, or shared by them


class Grant(msgspec.Struct, frozen=True):
    """Yes: in what name the audit records it, and whether it overrides the owner."""

    kind: ActorKind
    override: bool = False


class ForbiddenError(Exception):
    """The principal may not do that. The message says which roles may."""


class TenantRequiredError(Exception):
    """A service must say whose data it means."""


_U, _A, _P, _S, _V = Role.USER, Role.ADMIN, Role.PLATFORM, Role.SERVICE, Role.VIEWER
_OWN, _TENANT, _ALL = Ownership.OWN, Ownership.TENANT, Ownership.ALL

# For each call and ownership the roles that may, the humblest first: it names the act in the audit.
# No entry, no right; nothing at all is ever granted on a foreign tenant's rows.
RIGHTS: Final[dict[tuple[Call, Ownership], tuple[Role, ...]]] = {
    (Call.JOB_SUBMIT, _OWN): (_U, _A, _S),
    (Call.JOB_READ, _OWN): (_U, _V, _A, _S),
    (Call.JOB_READ, _TENANT): (_V, _A, _S),
    (Call.JOB_CHANGE, _OWN): (_U, _A, _S),
    (Call.JOB_CHANGE, _TENANT): (_A, _S),
    (Call.STATS_READ, _TENANT): (_U, _V, _A, _S),
    (Call.LETTER_READ, _OWN): (_U, _V, _A, _S),
    (Call.LETTER_READ, _TENANT): (_V, _A, _S),
    (Call.LETTER_REQUEUE, _OWN): (_U, _A, _S),
    (Call.LETTER_REQUEUE, _TENANT): (_A, _S),
    (Call.LETTER_DISCARD, _OWN): (_A, _S),
    (Call.LETTER_DISCARD, _TENANT): (_A, _S),
    (Call.RETENTION, _TENANT): (_A, _S),
    (Call.RETENTION, _ALL): (_S,),
    (Call.RECONCILE, _TENANT): (_A, _S),
    (Call.RECONCILE, _ALL): (_S,),
    (Call.FIGURES_READ, _TENANT): (_U, _V, _A, _S),
    (Call.FIGURES_READ, _ALL): (_P, _S),
    (Call.QUEUE_READ, _ALL): (_U, _V, _A, _P, _S),
    (Call.QUEUE_CHANGE, _ALL): (_P, _S),
    (Call.WORKER_READ, _ALL): (_V, _A, _P, _S),
    (Call.WORKER_DRAIN, _ALL): (_P, _S),
    (Call.WORKER_DISMISS, _ALL): (_S,),
    (Call.AUDIT_READ, _TENANT): (_V, _A, _S),
    (Call.EVENT_READ, _OWN): (_U, _V, _A, _S),
    (Call.EVENT_READ, _TENANT): (_V, _A, _S),
    (Call.WEBHOOK, _TENANT): (_A,),
    (Call.ME_READ, _ALL): (_U, _V, _A, _P, _S),
}

_ACTOR_KINDS: Final[dict[Role, ActorKind]] = {
    Role.VIEWER: ActorKind.USER,
    Role.USER: ActorKind.USER,
    Role.ADMIN: ActorKind.ADMIN,
    Role.PLATFORM: ActorKind.PLATFORM,
    Role.SERVICE: ActorKind.SERVICE,
}
_OVERRIDABLE: Final = frozenset({Call.JOB_CHANGE, Call.LETTER_REQUEUE, Call.LETTER_DISCARD})


def may(principal: Principal, call: Call, ownership: Ownership) -> Grant | None:
    """The grant, or None."""
    return _grant(principal.roles, call, ownership, principal.tenant_id is not None, principal.is_bound)


def rights_of(principal: Principal) -> list[str]:
    """Everything that the principal may, each as `<call>:<ownership>`."""
    return [f"{call}:{ownership}" for call, ownership in RIGHTS if may(principal, call, ownership)]


def ownership_of(principal: Principal, tenant_id: str, user_id: int) -> Ownership:
    """How a row of this tenant and user stands to the principal."""
    if tenant_id != principal.tenant_id:
        return Ownership.FOREIGN
    return Ownership.OWN if user_id == principal.user_id else Ownership.TENANT


def scope_of(principal: Principal, call: Call) -> Scope:
    """The widest scope that the principal may use this call in; that of a bound service is its tenant.

    Raises ForbiddenError, and TenantRequiredError for a service that named no tenant.
    """
    if principal.is_bound and may(principal, call, Ownership.TENANT):
        return Scope(tenant_id=principal.tenant_id)
    if may(principal, call, Ownership.ALL):
        return _EVERYTHING
    if may(principal, call, Ownership.TENANT):
        return Scope(tenant_id=principal.tenant_id)
    if may(principal, call, Ownership.OWN):
        user_id = 0 if principal.user_id is None else principal.user_id
        return Scope(tenant_id=principal.tenant_id, user_id=user_id)
    if Role.SERVICE in principal.roles and not principal.is_bound and _is_open_to(Role.SERVICE, call):
        raise TenantRequiredError("a service says whose data it means with X-Tenant-Id")
    raise ForbiddenError(f"this call takes one of the roles {', '.join(_roles_of(call))}")


@lru_cache(maxsize=4_096)
def _grant(
    roles: frozenset[Role], call: Call, ownership: Ownership, has_tenant: bool, is_bound: bool
) -> Grant | None:
    is_shared = ownership is Ownership.ALL
    for role in RIGHTS.get((call, ownership), ()):
        stands_in_tenant = is_bound if role is Role.SERVICE else has_tenant
        if role in roles and (is_shared or stands_in_tenant):
            override = role is Role.ADMIN and ownership is Ownership.TENANT and call in _OVERRIDABLE
            return Grant(_ACTOR_KINDS[role], override)
    return None


def _is_open_to(role: Role, call: Call) -> bool:
    return role in _roles_of(call)


def _roles_of(call: Call) -> list[Role]:
    return sorted({role for (granted, _), able in RIGHTS.items() if granted is call for role in able})


_EVERYTHING: Final = Scope(tenant_id=None)
