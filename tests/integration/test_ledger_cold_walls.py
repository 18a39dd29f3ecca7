"""Walls: every call of the cold stores takes its scope, so another tenant and another user get nothing."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from ferryman.ledger.pool import Pools, Reaches
from ferryman.ports import (
    DigestUnknownError,
    JobFilter,
    LedgerError,
    LetterFilter,
    Page,
    Scope,
    StatsQuery,
)
from tests.support.keeping import NOTHING, age_jobs, apply, keep
from tests.support.ledgers import assert_books, rows
from tests.support.servers import Database
from tests.support.stores import ACME, ADMIN, EVERYONE, GLOBEX, Stores

COLLEAGUE = Scope(tenant_id="acme", user_id=8)
NAMESAKE = Scope(tenant_id="globex", user_id=7)
STRANGERS = (GLOBEX, COLLEAGUE, NAMESAKE)
NO_PAGE: Page[Any] = Page([], None)
ANY = LetterFilter(status=None)

Call = Callable[[Stores, Scope], Awaitable[object]]


@pytest.fixture
def stores(pools: Pools) -> Stores:
    return Stores.on(pools)


async def _dead(stores: Stores) -> Any:
    return await stores.letter_of(await stores.dead())


async def _empty_redrive(stores: Stores, scope: Scope) -> object:
    await stores.dead()
    terms: Any = {"max_redrives": None, "batch_size": 9}
    preview = await stores.letters.preview(scope, LetterFilter(), **terms)
    result = await stores.letters.redrive(
        scope, LetterFilter(), ADMIN, digest=None, reset_retries=True, **terms
    )
    return preview.matched, preview.sample, result.requeued, result.skipped, result.remaining


async def _stats(stores: Stores, scope: Scope) -> object:
    await stores.ended()
    at = (await stores.pools.read.fetchrow("SELECT now() AS now"))["now"]
    query = StatsQuery(start=at - timedelta(hours=1), end=at)
    found: Any = await stores.reports.stats(scope, query)
    return set(found["counts"].values())


CALLS: dict[str, tuple[Call, object]] = {
    "get": (lambda s, who: _on(s.submitted(), lambda job: s.lookup.get(who, job)), None),
    "find": (
        lambda s, who: _on(s.submitted(), lambda _: s.lookup.find(who, JobFilter(), limit=9, after=None)),
        NO_PAGE,
    ),
    "find by user": (
        lambda s, who: _on(
            s.submitted(), lambda _: s.lookup.find(who, JobFilter(user_ids=(7,)), limit=9, after=None)
        ),
        NO_PAGE,
    ),
    "history": (
        lambda s, who: _on(s.ended(), lambda job: s.lookup.history(who, job, limit=9, after=None)),
        NO_PAGE,
    ),
    "cancel": (
        lambda s, who: _on(s.submitted(), lambda job: s.changes.cancel(who, job, ADMIN)),
        ("not_found", None),
    ),
    "hurry": (
        lambda s, who: _on(s.retrying(), lambda job: s.changes.retry(who, job, ADMIN)),
        ("not_found", None),
    ),
    "retry": (
        lambda s, who: _on(s.dead(), lambda job: s.changes.retry(who, job, ADMIN)),
        ("not_found", None),
    ),
    "letter": (lambda s, who: _on(_dead(s), lambda letter: s.letters.get(who, letter)), None),
    "letters": (
        lambda s, who: _on(_dead(s), lambda _: s.letters.find(who, ANY, limit=9, after=None)),
        NO_PAGE,
    ),
    "requeue": (
        lambda s, who: _on(_dead(s), lambda letter: s.letters.requeue(who, letter, ADMIN)),
        ("not_found", None),
    ),
    "discard": (
        lambda s, who: _on(_dead(s), lambda letter: s.letters.discard(who, letter, ADMIN)),
        "not_found",
    ),
    "redrive": (_empty_redrive, (0, [], 0, 0, 0)),
}


async def _on(made: Awaitable[Any], ask: Callable[[Any], Awaitable[object]]) -> object:
    return await ask(await made)


@pytest.mark.parametrize("name", CALLS)
async def test_strangers_get_nothing(stores: Stores, ledger_database: Database, name: str) -> None:
    call, nothing = CALLS[name]
    for scope in STRANGERS:
        before = await rows(
            ledger_database.owner_url, "SELECT count(*) FROM ferryman.job_audit WHERE override"
        )
        assert await call(stores, scope) == nothing
        after = await rows(
            ledger_database.owner_url, "SELECT count(*) FROM ferryman.job_audit WHERE override"
        )
        assert after == before, "what is refused is not done"
    for scope in (ACME, Scope(tenant_id="acme", user_id=7)):
        assert await call(stores, scope) != nothing
    await assert_books(ledger_database.owner_url)


class SecondWallOnly(Pools):
    """Connections on which a call without any tenant is one of globex: the statements filter nothing."""

    def as_tenant(self, tenant_id: str | None) -> Reaches:
        assert tenant_id is None
        return super().as_tenant("globex")


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"redrive"}))
async def test_strangers_get_nothing_by_the_second_wall_alone(ledger_database: Database, name: str) -> None:
    pools = SecondWallOnly(ledger_database.service_url)
    call, nothing = CALLS[name]
    try:
        assert await call(Stores.on(pools), EVERYONE) == nothing
        changed = "SELECT count(*) FROM ferryman.job_audit WHERE override"
        assert (await rows(ledger_database.owner_url, changed))[0][0] == 0
    finally:
        await pools.close()


async def test_a_redrive_by_the_second_wall_alone_moves_nothing(ledger_database: Database) -> None:
    pools = SecondWallOnly(ledger_database.service_url)
    stores = Stores.on(pools)
    await stores.dead()
    terms: Any = {"max_redrives": None, "batch_size": 9}
    try:
        with pytest.raises(LedgerError, match="42501"):
            await stores.letters.preview(EVERYONE, ANY, **terms)
        result = await stores.letters.redrive(EVERYONE, ANY, ADMIN, digest=None, reset_retries=True, **terms)
        assert (result.requeued, result.skipped, result.remaining) == (0, 0, 0)
    finally:
        await pools.close()


async def test_another_tenant_has_its_own_figures(stores: Stores) -> None:
    await stores.submitted()
    await stores.running()
    await stores.dead()
    counts = await stores.reports.counts("default", tenant_id="globex")
    assert (counts.pending, counts.scheduled, counts.retrying, counts.running) == (0, 0, 0, 0)
    figures = await stores.reports.ledger_figures("default", tenant_id="globex", horizons_ms=[1000])
    assert (figures.dead_letters, figures.oldest_pending_age_ms, figures.running_elapsed_ms) == (0, None, 0)
    assert (figures.arrivals, figures.completions, figures.failures, figures.service_ms) == (0, 0, 0, 0)
    assert await _stats(stores, GLOBEX) == {0}
    assert await _stats(stores, ACME) != {0}


async def test_a_digest_does_not_lend_a_right(stores: Stores) -> None:
    await stores.dead()
    preview = await stores.letters.preview(ACME, LetterFilter(), max_redrives=None, batch_size=9)
    terms: Any = {"digest": preview.digest, "max_redrives": None, "batch_size": 9, "reset_retries": True}
    for scope in (GLOBEX, NAMESAKE):
        with pytest.raises(DigestUnknownError):
            await stores.letters.redrive(scope, LetterFilter(), ADMIN, **terms)
    result = await stores.letters.redrive(COLLEAGUE, LetterFilter(), ADMIN, **terms)
    assert (result.requeued, result.skipped) == (0, 1)


async def test_retention_of_another_tenant_spares_this_one(stores: Stores, ledger_database: Database) -> None:
    await stores.ended()
    await stores.dead()
    await age_jobs(ledger_database, 2)
    await keep(stores, completed=1, dead_letter=1)
    for scope in STRANGERS:
        assert await apply(stores, scope, dry_run=True) == NOTHING
        assert await apply(stores, scope) == NOTHING
    assert (await apply(stores, ACME)).completed == 1
