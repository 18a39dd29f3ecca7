"""Plans of the hot statements: so many rows touched for a batch, by the intended index, whatever is known."""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest

from ferryman.embedded import EmbeddedPostgres
from ferryman.ledger.pool import HOT_SETTINGS
from ferryman.ledger.statements import statement
from ferryman.ledger.submissions import Submission, columns
from tests.support.ledgers import USER, connected, new_job, rows
from tests.support.servers import Database, database_on

BATCH = 100
FINISHED, WAITING, RUNNING = 20_000, 5_000, 500
FILL = """
INSERT INTO ferryman.jobs (
    id, tenant_id, user_id, type, queue_name, status, priority, run_at, ready_since, expires_at, claim_token,
    lease_until, started_at, worker_id
)
SELECT ferryman.uuid7(now() - (n % 7919) * interval '1 s'), 'acme', n % 50, 'chat', 'default', $3::varchar,
    n % 3,
    now() - n * interval '1 ms', now() - n * interval '1 ms',
    CASE WHEN n % 10 = 0 THEN now() - interval '1 min' END,
    CASE WHEN $3 = 'running' THEN gen_random_uuid() END,
    CASE WHEN $3 = 'running' THEN now() + (n - 100) * interval '1 s' END, now(), 'w' || n % 5
FROM generate_series($1::int, $2::int) AS n
"""


async def _fill(connection: Any, first: int, count: int, status: str) -> None:
    await connection.execute(FILL, first, first + count - 1, status)


@pytest.fixture(scope="module", params=["never analysed", "analysed", "analysed too early", "bloated"])
async def busy(
    request: pytest.FixtureRequest, postgres: EmbeddedPostgres, ledger_template: str
) -> AsyncIterator[Database]:
    """A ledger with finished, waiting and running jobs, of which the planner knows much, nothing or lies."""
    with database_on(postgres, ledger_template) as database:
        async with connected(database.owner_url) as connection:
            await connection.execute("ALTER TABLE ferryman.jobs SET (autovacuum_enabled = off)")
            if request.param == "analysed too early":
                await _fill(connection, 1, 10, "pending")
                await connection.execute("ANALYZE")
            await _fill(connection, 100, FINISHED, "completed")
            await _fill(connection, 100_000, WAITING, "pending")
            await _fill(connection, 1, RUNNING, "running")
            if request.param == "bloated":
                for _ in range(3):
                    await connection.execute("UPDATE ferryman.jobs SET updated_at = now()")
            if request.param == "analysed":
                await connection.execute("ANALYZE")
        yield database


class Plan:
    """What the scans of one run touched."""

    def __init__(self, nodes: Sequence[dict[str, Any]]) -> None:
        scans = [node for node in nodes if node["Node Type"].endswith("Scan")]
        self._scans = scans

    def indexes(self, table: str = "jobs") -> set[str]:
        """The indexes by which rows of a table were found; an empty name for a scan without one."""
        return {node.get("Index Name", "") for node in self._of(table)}

    def touched(self, table: str = "jobs") -> float:
        """Rows read, kept or thrown away."""
        return sum(map(_rows, self._of(table)))

    def compared(self) -> float:
        """The most rows that any scan of a list inside the statement went through."""
        lists = [node for node in self._scans if node["Node Type"] in ("CTE Scan", "Function Scan")]
        return max(map(_rows, lists), default=0)

    def _of(self, table: str) -> list[dict[str, Any]]:
        return [node for node in self._scans if node.get("Relation Name") == table]


def _rows(node: dict[str, Any]) -> float:
    a_loop: float = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    loops: float = node["Actual Loops"]
    return a_loop * loops


async def run(database: Database, name: str, *arguments: Any) -> Plan:
    """Run a statement by its generic plan under the settings of the hot connections, and undo it."""
    async with connected(database.service_url) as connection:
        for setting, value in HOT_SETTINGS.items():
            await connection.execute("SELECT set_config($1, $2, false)", setting, value)
        await connection.execute(f"PREPARE asked AS {statement(name)}")
        given = ", ".join(_literal(argument) for argument in arguments)
        undone = connection.transaction()
        await undone.start()
        row = await connection.fetchrow(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({given})")
        await undone.rollback()
    return Plan(list(_nodes(json.loads(row[0])[0]["Plan"])))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _literal(argument: Any) -> str:
    match argument:
        case None:
            return "NULL"
        case bool() | int() | float():
            return str(argument)
        case list():
            return _literal("{" + ", ".join(_element(item) for item in argument) + "}")
        case _:
            return "'" + str(argument).replace("'", "''") + "'"


def _element(item: Any) -> str:
    return "NULL" if item is None else '"' + str(item).replace("\\", "\\\\").replace('"', '\\"') + '"'


async def _pairs(database: Database, status: str) -> tuple[list[UUID], list[UUID]]:
    found = await rows(
        database.owner_url,
        "SELECT id, coalesce(claim_token, gen_random_uuid()) AS token FROM ferryman.jobs"
        " WHERE status = $1 AND expires_at IS NULL ORDER BY id LIMIT $2",
        status,
        BATCH,
    )
    return [row["id"] for row in found], [row["token"] for row in found]


async def test_a_claim_finds_its_rows_by_id(busy: Database) -> None:
    ids, tokens = await _pairs(busy, "pending")
    plan = await run(busy, "claim_jobs", ids, tokens, "w1", ["chat"], "default")
    assert plan.indexes() == {"jobs_pkey"}
    assert plan.touched() == 2 * BATCH  # once to lock, once to change
    assert plan.compared() <= BATCH


async def test_a_completion_finds_its_rows_by_id(busy: Database) -> None:
    ids, tokens = await _pairs(busy, "running")
    numbers = [5] * BATCH
    plan = await run(busy, "complete_jobs", ids, tokens, ["{}"] * BATCH, numbers, numbers, "w1", 3)
    assert plan.indexes() == {"jobs_pkey"}
    assert plan.touched() == BATCH
    assert plan.compared() <= BATCH


async def test_a_settlement_finds_its_rows_by_id(busy: Database) -> None:
    ids, tokens = await _pairs(busy, "running")
    verdicts = ["retried", "dead_lettered", "cancelled", "snoozed"] * (BATCH // 4)
    texts = ["x"] * BATCH
    arguments = [
        ids,
        tokens,
        verdicts,
        [0] * BATCH,
        ["{}"] * BATCH,
        texts,
        texts,
        ["{}"] * BATCH,
        texts,
        texts,
    ]
    plan = await run(busy, "settle_jobs", *arguments, *([5] * BATCH,) * 2, None, None, "worker", "w1", 3)
    assert plan.indexes() == {"jobs_pkey"}
    assert plan.touched() == 2 * BATCH
    assert plan.compared() <= BATCH
    assert plan.indexes("dead_letter_jobs") <= {"dead_letters_by_job"}


async def test_a_beat_finds_its_rows_by_id(busy: Database) -> None:
    ids, tokens = await _pairs(busy, "running")
    plan = await run(busy, "beat", "w9", "pod", ["default"], ["chat"], 100, 100, "running", ids, tokens)
    assert plan.indexes() == {"jobs_pkey"}
    assert plan.touched() == 2 * BATCH
    assert plan.compared() <= BATCH


async def test_a_rescue_finds_its_rows_by_id(busy: Database) -> None:
    ids, tokens = await _pairs(busy, "running")
    plan = await run(busy, "judge_overdue", ids, tokens)
    assert (plan.indexes(), plan.touched()) == ({"jobs_pkey"}, BATCH)


@pytest.mark.parametrize("name", ["isolate_attempt", "report_progress"])
async def test_one_attempt_is_found_by_id(busy: Database, name: str) -> None:
    (job_id, *_), (token, *_) = await _pairs(busy, "running")
    more = [1, "note", "{}"] if name == "report_progress" else []
    plan = await run(busy, name, job_id, token, *more)
    assert (plan.indexes(), plan.touched()) == ({"jobs_pkey"}, 1)


async def test_positions_are_found_by_id(busy: Database) -> None:
    ids, _ = await _pairs(busy, "completed")
    plan = await run(busy, "positions", ids)
    assert (plan.indexes(), plan.touched()) == ({"jobs_pkey"}, BATCH)


async def test_an_insert_reads_no_job_and_its_own_lists_once(busy: Database) -> None:
    batch = [Submission(new_job(), USER) for _ in range(BATCH)]
    plan = await run(busy, "insert_jobs", *columns(batch), 3, True)
    assert plan.touched() == 0
    assert plan.compared() <= BATCH
    assert plan.touched("queues") == 1


async def test_twins_are_found_by_id_and_key(busy: Database) -> None:
    ids = [uuid4() for _ in range(BATCH)]
    texts = [f"k{number}" for number in range(BATCH)]
    plan = await run(busy, "find_twins", ids, ["acme"] * BATCH, ["chat"] * BATCH, texts, ["default"] * BATCH)
    assert (plan.indexes(), plan.touched()) == ({"jobs_pkey", "jobs_unique_key"}, 0)


async def test_the_first_ready_jobs_are_read_from_their_index(busy: Database) -> None:
    plan = await run(busy, "pick_ready", "default", BATCH, ["chat"])
    assert plan.indexes() == {"jobs_ready"}
    # Three priorities occur, each read to the limit; one row in ten has expired.
    assert plan.touched() <= 3 * BATCH * 1.3 + 10


async def test_a_sweep_reads_its_window(busy: Database) -> None:
    plan = await run(busy, "recently_ready", "default", 10**9, BATCH)
    assert plan.indexes() == {"jobs_ready"}
    assert plan.touched() <= 3 * BATCH + 10


async def test_a_page_of_a_rebuild_reads_a_page(busy: Database) -> None:
    ids, _ = await _pairs(busy, "pending")
    plan = await run(busy, "unfinished_page", "default", ids[-1], BATCH)
    assert (plan.indexes(), plan.touched()) == ({"jobs_unfinished"}, BATCH)


async def test_expired_leases_are_read_from_their_index(busy: Database) -> None:
    plan = await run(busy, "judge_expired", 10**9, 50)
    assert (plan.indexes(), plan.touched()) == ({"jobs_leased"}, 50)


async def test_leases_of_lost_workers_are_read_among_the_running(busy: Database) -> None:
    plan = await run(busy, "judge_lost_workers", ["w1"], 1, 50)
    assert plan.indexes() == {"jobs_leased"}
    assert plan.touched() <= RUNNING


async def test_silent_workers_are_compared_with_the_running(busy: Database) -> None:
    plan = await run(busy, "forget_workers", ["w1"], 1)
    assert plan.indexes() <= {"jobs_leased"}
    assert plan.touched() <= RUNNING


async def test_jobs_past_their_expiry_are_read_from_their_index(busy: Database) -> None:
    plan = await run(busy, "expire_jobs", BATCH, "maintainer", 3)
    assert plan.indexes() == {"jobs_expiring", "jobs_pkey"}
    assert plan.touched() <= 2 * BATCH + 1
