"""The checker: whether a ledger's history keeps what Ferryman promises, whatever was done to its processes.

Each check is linear in the audit and answers violations as sentences; an empty list is a pass. The numbers
follow the invariants that docs/trust.md lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import asyncpg

from ferryman.core.status import STATS_OUTCOMES, TRANSITIONS, Action

CHECKS: Final[dict[str, str]] = {
    "3 one end": """
        SELECT job_id::text || ' ended ' || ends || ' times with ' || requeues || ' requeues'
        FROM (
            SELECT job_id,
                count(*) FILTER (
                    WHERE to_status NOT IN ('pending', 'running') AND from_status IN ('pending', 'running')
                ) AS ends,
                count(*) FILTER (WHERE action = 'requeued') AS requeues
            FROM ferryman.job_audit WHERE job_id IS NOT NULL GROUP BY job_id
        ) AS job WHERE ends - requeues > 1
    """,
    "3 the row is its last audit row": """
        SELECT j.id::text || ' is ' || j.status || ', its audit says ' || coalesce(last.to_status, 'nothing')
        FROM ferryman.jobs AS j LEFT JOIN (
            SELECT DISTINCT ON (job_id) job_id, to_status FROM ferryman.job_audit
            WHERE job_id IS NOT NULL AND to_status IS NOT NULL ORDER BY job_id, at DESC, id DESC
        ) AS last ON last.job_id = j.id
        WHERE last.to_status IS DISTINCT FROM j.status
    """,
    "4 legal chain": """
        SELECT job_id::text || ': ' || action || ' from ' || coalesce(from_status, 'nothing') || ' after '
            || coalesce(before, 'nothing')
        FROM (
            SELECT job_id, action, from_status,
                lag(to_status) OVER (PARTITION BY job_id ORDER BY at, id) AS before
            FROM ferryman.job_audit WHERE job_id IS NOT NULL
        ) AS step WHERE before IS DISTINCT FROM from_status
    """,
    "5 attempts rise by one": """
        SELECT job_id::text || ': claim ' || nth || ' is attempt ' || attempt
        FROM (
            SELECT job_id, attempt, row_number() OVER (PARTITION BY job_id ORDER BY at, id) AS nth
            FROM ferryman.job_audit WHERE action = 'claimed'
        ) AS claim WHERE nth <> attempt
    """,
    "6 one owner: each end carries the token of its claim": """
        SELECT job_id::text || ': ' || action || ' of attempt ' || attempt || ' by another token'
        FROM (
            SELECT job_id, action, attempt, details->>'token' AS token,
                max(details->>'token') FILTER (WHERE action = 'claimed') OVER (PARTITION BY job_id, attempt)
                    AS claimed
            FROM ferryman.job_audit
        ) AS ended
        WHERE action IN ('completed', 'retried', 'snoozed', 'released', 'reaped', 'dead_lettered')
            AND token IS DISTINCT FROM claimed
    """,
    "7 stats are the audit": """
        WITH told AS (
            SELECT date_trunc('minute', at) AS minute, tenant_id, queue_name, job_type AS type, outcome,
                count(*) AS jobs
            FROM ferryman.job_audit
            JOIN unnest($1::text[], $2::text[]) AS known (action, outcome) USING (action)
            GROUP BY 1, 2, 3, 4, 5
        ), counted AS (
            SELECT minute, tenant_id, queue_name, type, outcome, sum(jobs) AS jobs
            FROM ferryman.job_stats GROUP BY 1, 2, 3, 4, 5
        )
        SELECT concat_ws(' ', minute, queue_name, type, outcome, ': stats', counted.jobs, 'audit', told.jobs)
        FROM told FULL JOIN counted USING (minute, tenant_id, queue_name, type, outcome)
        WHERE told.jobs IS DISTINCT FROM counted.jobs
    """,
    "7 totals are the audit": """
        WITH told AS (
            SELECT queue_name, count(*) FILTER (WHERE action = 'submitted') AS arrivals,
                count(*) FILTER (WHERE action = 'completed') AS completions
            FROM ferryman.job_audit WHERE job_id IS NOT NULL GROUP BY 1
        ), counted AS (
            SELECT queue_name, sum(arrivals) AS arrivals, sum(completions) AS completions
            FROM ferryman.queue_totals GROUP BY 1
        )
        SELECT concat_ws(' ', queue_name, 'arrivals', counted.arrivals, told.arrivals, 'completions',
            counted.completions, told.completions)
        FROM told FULL JOIN counted USING (queue_name)
        WHERE (told.arrivals, told.completions) IS DISTINCT FROM (counted.arrivals, counted.completions)
    """,
    "8 dead letters": """
        SELECT coalesce(j.id, d.original_job_id)::text || ': job ' || coalesce(j.status, 'gone')
            || ', letter ' || coalesce(d.status, 'none')
        FROM (SELECT * FROM ferryman.jobs WHERE status = 'dead_letter') AS j
        FULL JOIN (SELECT * FROM ferryman.dead_letter_jobs WHERE status = 'dead') AS d
            ON d.original_job_id = j.id
        WHERE (j.id IS NULL OR (d.id IS NULL AND NOT EXISTS (
            SELECT FROM ferryman.dead_letter_jobs AS x
            WHERE x.original_job_id = j.id AND x.status = 'discarded'
        )))
    """,
    "11 budgets": """
        SELECT id::text || ': ' || crashes || ' crashes, ' || retry_count || '/' || max_retries || ' retries'
        FROM ferryman.jobs
        WHERE (crashes > 3 OR retry_count > 2 * max_retries)
    """,
    "12 never early": """
        SELECT a.job_id::text || ' claimed ' || (j.run_at - a.at) || ' early'
        FROM ferryman.job_audit AS a JOIN ferryman.jobs AS j ON j.id = a.job_id
        WHERE a.action = 'claimed' AND a.attempt = j.attempt AND j.status = 'running'
            AND a.at < j.run_at - interval '1.1 s'
    """,
}
STUCK: Final = """
    SELECT id::text || ' is ' || status || ', attempt ' || attempt || ', run at ' || run_at || ', worker '
        || coalesce(worker_id, 'none') AS told, count(*) OVER () AS jobs
    FROM ferryman.jobs
    WHERE queue_name = $1
        AND (status = 'running' OR (status = 'pending' AND run_at <= now() + interval '1 h'))
    LIMIT 5
"""


async def violations(
    ledger: asyncpg.Connection[asyncpg.Record], acknowledged: Iterable[str] = ()
) -> list[str]:
    """Every broken promise that the ledger shows, five examples a check. `acknowledged` are ids that were
    answered with 201.
    """
    found = await _lost(ledger, list(acknowledged)) + await _illegal(ledger)
    outcomes = {str(action): outcome for action, outcome in STATS_OUTCOMES.items()}
    for name, statement in CHECKS.items():
        arguments = [list(outcomes), list(outcomes.values())] if "$2" in statement else []
        rows = await ledger.fetch(f"{statement} LIMIT 5", *arguments)
        found += [f"{name}: {row[0]}" for row in rows]
    return found


async def stuck(ledger: asyncpg.Connection[asyncpg.Record], queue: str) -> list[str]:
    """Invariant 9: unfinished jobs that nothing but a fault could still hold up, five of them."""
    rows = await ledger.fetch(STUCK, queue)
    return [f"9 nobody stuck, of {row['jobs']}: {row['told']}" for row in rows]


async def _lost(ledger: asyncpg.Connection[asyncpg.Record], acknowledged: list[str]) -> list[str]:
    rows = await ledger.fetch(
        """
        SELECT id::text FROM unnest($1::uuid[]) AS told (id)
        WHERE NOT EXISTS (SELECT FROM ferryman.jobs AS j WHERE j.id = told.id)
            AND NOT EXISTS (
                SELECT FROM ferryman.job_audit AS a WHERE a.job_id = told.id AND a.action = 'pruned'
            )
        """,
        acknowledged,
    )
    return [f"1 no acknowledged job lost: {row[0]}" for row in rows]


async def _illegal(ledger: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    rows = await ledger.fetch(
        "SELECT DISTINCT action, from_status, to_status FROM ferryman.job_audit WHERE job_id IS NOT NULL"
    )
    known = {
        (str(action), before and str(before), after and str(after))
        for action, pairs in TRANSITIONS.items()
        for before, after in pairs
    }
    assert {str(action) for action in Action} == {action for action, _, _ in known}
    return [f"4 legal chain: {tuple(row)} is not in the table" for row in rows if tuple(row) not in known]
