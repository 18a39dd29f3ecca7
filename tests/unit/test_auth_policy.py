"""The policy as a table: call × role × ownership."""

import itertools

import pytest

from ferryman.auth.policy import (
    RIGHTS,
    Call,
    ForbiddenError,
    Ownership,
    TenantRequiredError,
    may,
    ownership_of,
    scope_of,
)
from ferryman.auth.principal import Principal, Role
from ferryman.core.job import ActorKind
from ferryman.ports import Scope

# Who may, by ownership: u user, v viewer, a admin, p platform, s a service that named a tenant (own, tenant)
# or did not (all). Everything else is refused.
TABLE = {
    #                     own     tenant  all
    Call.JOB_SUBMIT: ("uas", "", ""),
    Call.JOB_READ: ("uvas", "vas", ""),
    Call.JOB_CHANGE: ("uas", "as", ""),
    Call.STATS_READ: ("", "uvas", ""),
    Call.LETTER_READ: ("uvas", "vas", ""),
    Call.LETTER_REQUEUE: ("uas", "as", ""),
    Call.LETTER_DISCARD: ("as", "as", ""),
    Call.RETENTION: ("", "as", "s"),
    Call.RECONCILE: ("", "as", "s"),
    Call.FIGURES_READ: ("", "uvas", "ps"),
    Call.QUEUE_READ: ("", "", "uvaps"),
    Call.QUEUE_CHANGE: ("", "", "ps"),
    Call.WORKER_READ: ("", "", "vaps"),
    Call.WORKER_DRAIN: ("", "", "ps"),
    Call.WORKER_DISMISS: ("", "", "s"),
    Call.AUDIT_READ: ("", "vas", ""),
    Call.EVENT_READ: ("uvas", "vas", ""),
    Call.WEBHOOK: ("", "a", ""),
    Call.ME_READ: ("", "", "uvaps"),
}
LETTERS = {"u": Role.USER, "v": Role.VIEWER, "a": Role.ADMIN, "p": Role.PLATFORM, "s": Role.SERVICE}
COLUMNS = (Ownership.OWN, Ownership.TENANT, Ownership.ALL)


def bearer(*roles: Role, bound: bool = False) -> Principal:
    principal = Principal(subject="7", tenant_id="acme", user_id=7, roles=frozenset(roles))
    return principal.acting_for("acme") if bound else principal


def test_every_call_has_its_row() -> None:
    assert set(TABLE) == set(Call)
    assert {call for call, _ in RIGHTS} == set(Call)


@pytest.mark.parametrize(("call", "role", "ownership"), list(itertools.product(Call, Role, Ownership)))
def test_the_table_holds(call: Call, role: Role, ownership: Ownership) -> None:
    by_ownership = dict(zip(COLUMNS, TABLE[call], strict=True))
    allowed = role in {LETTERS[letter] for letter in by_ownership.get(ownership, "")}
    principal = bearer(role, bound=role is Role.SERVICE and ownership is not Ownership.ALL)
    assert (may(principal, call, ownership) is not None) == allowed


@pytest.mark.parametrize(("call", "ownership"), list(itertools.product(Call, Ownership)))
def test_without_a_role_nothing(call: Call, ownership: Ownership) -> None:
    assert may(bearer(), call, ownership) is None


@pytest.mark.parametrize(
    ("call", "ownership"), list(itertools.product(Call, (Ownership.OWN, Ownership.TENANT)))
)
def test_a_service_that_named_no_tenant_has_no_right_in_its_token_s_own(
    call: Call, ownership: Ownership
) -> None:
    assert may(bearer(Role.SERVICE), call, ownership) is None


def test_an_admin_on_another_s_row_overrides() -> None:
    grant = may(bearer(Role.USER, Role.ADMIN), Call.JOB_CHANGE, Ownership.TENANT)
    assert grant is not None
    assert (grant.kind, grant.override) == (ActorKind.ADMIN, True)


def test_on_its_own_row_an_admin_is_a_user() -> None:
    grant = may(bearer(Role.USER, Role.ADMIN), Call.JOB_CHANGE, Ownership.OWN)
    assert grant is not None
    assert (grant.kind, grant.override) == (ActorKind.USER, False)


def test_a_service_does_not_override() -> None:
    grant = may(bearer(Role.SERVICE, bound=True), Call.JOB_CHANGE, Ownership.TENANT)
    assert grant is not None
    assert (grant.kind, grant.override) == (ActorKind.SERVICE, False)


@pytest.mark.parametrize(
    ("principal", "call", "scope"),
    [
        (bearer(Role.USER), Call.JOB_READ, Scope(tenant_id="acme", user_id=7)),
        (bearer(Role.VIEWER), Call.JOB_READ, Scope(tenant_id="acme")),
        (bearer(Role.ADMIN), Call.JOB_CHANGE, Scope(tenant_id="acme")),
        (bearer(Role.USER), Call.FIGURES_READ, Scope(tenant_id="acme")),
        (bearer(Role.USER, Role.PLATFORM), Call.FIGURES_READ, Scope(tenant_id=None)),
        (bearer(Role.SERVICE), Call.FIGURES_READ, Scope(tenant_id=None)),
        (bearer(Role.SERVICE, bound=True), Call.FIGURES_READ, Scope(tenant_id="acme")),
        (bearer(Role.SERVICE), Call.RETENTION, Scope(tenant_id=None)),
        (bearer(Role.SERVICE, bound=True), Call.RETENTION, Scope(tenant_id="acme")),
        (bearer(Role.ADMIN), Call.RETENTION, Scope(tenant_id="acme")),
        (bearer(Role.SERVICE, bound=True), Call.QUEUE_CHANGE, Scope(tenant_id=None)),
    ],
)
def test_whose_rows_a_call_may_touch(principal: Principal, call: Call, scope: Scope) -> None:
    assert scope_of(principal, call) == scope


@pytest.mark.parametrize("call", [Call.JOB_READ, Call.JOB_SUBMIT, Call.STATS_READ, Call.LETTER_READ])
def test_a_service_must_name_a_tenant(call: Call) -> None:
    with pytest.raises(TenantRequiredError):
        scope_of(bearer(Role.SERVICE), call)


@pytest.mark.parametrize("call", [Call.JOB_READ, Call.JOB_SUBMIT, Call.STATS_READ, Call.LETTER_READ])
def test_platform_sees_nobody_s_data(call: Call) -> None:
    with pytest.raises(ForbiddenError):
        scope_of(bearer(Role.PLATFORM), call)


def test_acting_for_a_tenant_leaves_every_other_role_behind() -> None:
    acting = bearer(Role.SERVICE, Role.ADMIN, Role.PLATFORM).acting_for("globex")
    assert (acting.tenant_id, acting.roles) == ("globex", frozenset({Role.SERVICE}))


def test_ownership() -> None:
    assert ownership_of(bearer(Role.USER), "acme", 7) is Ownership.OWN
    assert ownership_of(bearer(Role.USER), "acme", 8) is Ownership.TENANT
    assert ownership_of(bearer(Role.USER), "globex", 7) is Ownership.FOREIGN
