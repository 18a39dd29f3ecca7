"""What a queue allows each tenant, and one tenant."""

from __future__ import annotations

import msgspec
import pytest

from ferryman.core.queues import PerTenant, QueueSettings, TenantSettings, decode, encode, tenant_limits


def test_what_is_left_out_of_a_tenants_limits_holds_as_for_each() -> None:
    settings = QueueSettings(
        per_tenant=PerTenant(max_concurrency=4, rate_per_second=2.5, burst=9, weight=3),
        tenants={"acme": TenantSettings(weight=2, max_concurrency=0)},
    )
    assert tenant_limits(settings, "globex") is settings.per_tenant
    assert tenant_limits(settings, "acme") == PerTenant(
        max_concurrency=0, rate_per_second=2.5, burst=9, weight=2
    )


def test_limits_of_tenants_survive_the_ledger() -> None:
    settings = QueueSettings(tenants={"acme": TenantSettings(rate_per_second=0.5), "b c": TenantSettings()})
    assert decode(encode(settings)) == settings


@pytest.mark.parametrize("name", ["", " a", "a ", "a\n", "a\x00", "x" * 51])
def test_what_cannot_name_a_tenant_is_refused(name: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.encode({"tenants": {name: {}}}))


def test_a_queue_has_a_word_on_a_thousand_tenants_at_most() -> None:
    decode(msgspec.json.encode({"tenants": {f"t{number}": {} for number in range(1_000)}}))
    with pytest.raises(msgspec.ValidationError):
        decode(msgspec.json.encode({"tenants": {f"t{number}": {} for number in range(1_001)}}))
