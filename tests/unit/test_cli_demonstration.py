"""The demonstration's plan and books, and the local stack's small parts, without servers."""

import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.cli.demonstration import plan
from ferryman.cli.demonstration.books import Books
from ferryman.cli.ready_file import ReadyFile

BALANCED = Books(
    acknowledged=60,
    by_status=Counter(completed=58, dead_letter=1, cancelled=1),
    stats={"submitted": 60, "completed": 58, "dead_letter": 1, "cancelled": 1, "expired": 0},
    letters=1,
    unfinished=0,
    sources=frozenset({"redis"}),
    wait_ms={"p50": 2.2, "p99": None},
    retries=4,
)


def test_plan_has_sixty_jobs_with_every_kind_of_end() -> None:
    planned = plan.jobs()
    assert len(planned) == 60
    assert plan.summary(planned) == "chat 20, memory 18, notification 15, flaky 4, report 2, doomed 1"
    assert sum("delay_ms" in job for job in planned) == 1
    assert sum(plan.is_endless(job.get("metadata", {})) for job in planned) == 1
    assert all(job["tags"] == [plan.TAG] for job in planned)


def test_balanced_books_say_so() -> None:
    assert BALANCED.disagreements() == []
    assert BALANCED.lines() == [
        "Books   submitted 60 = completed 58 + dead letters 1 + cancelled 1   "
        "✓ balanced, ledger and Redis agree",
        "Wait    p50 2 ms  p99 –     Retries 4",
    ]


@pytest.mark.parametrize(
    ("books", "said"),
    [
        (replace(BALANCED, acknowledged=61), "61 acknowledged jobs, but 60 ended"),
        (replace(BALANCED, letters=0), "1 dead_letter jobs, but 0 dead letters"),
        (replace(BALANCED, unfinished=2), "2 jobs wait or run in the queues, but 0 should"),
        (
            replace(BALANCED, stats=BALANCED.stats | {"completed": 57}),
            "58 completed jobs, but 57 completed in the statistics",
        ),
    ],
)
def test_books_that_do_not_balance_say_where(books: Books, said: str) -> None:
    assert said in books.disagreements()
    assert "✗" in books.lines()[0]


def test_ready_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "run" / "ready.json"
    ready = ReadyFile(path)
    ready.prepare()
    assert not path.exists()
    ready.write({"url": "http://127.0.0.1:1"})
    ready.write({"url": "http://127.0.0.1:2"})
    assert path.read_text() == '{\n  "url": "http://127.0.0.1:2"\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ReadyFile(path).prepare()
    assert list(path.parent.iterdir()) == []
    ready.remove()


def test_without_a_path_nothing_is_written() -> None:
    ready = ReadyFile(None)
    ready.prepare()
    ready.write({})
    ready.remove()
