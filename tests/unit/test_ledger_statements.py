"""Every statement stands in a file of its own, with its promise on top, and is used."""

import re
from pathlib import Path

import pytest

import ferryman.ledger
from ferryman.ledger.statements import statement

FOLDER = Path(ferryman.ledger.__file__).parent
NAMES = sorted(path.stem for path in (FOLDER / "sql").glob("*.sql"))
# What a crash may undo: a claim, for its token is the fence, and a beat, for the next one is near.
ASYNCHRONOUS = {"claim_jobs", "beat"}


@pytest.mark.parametrize("name", NAMES)
def test_a_statement_starts_with_its_promise(name: str) -> None:
    text = (FOLDER / "sql" / f"{name}.sql").read_text()
    assert text.startswith("-- ")
    assert re.match(r"/\* ferryman:\w+ \*/\n(WITH|SELECT|INSERT|UPDATE|DELETE)\b", statement(name))


def test_every_statement_is_used_and_there() -> None:
    code = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    assert {name for name in NAMES if f'"{name}"' in code} == set(NAMES)
    for name in re.findall(r'statement\("(\w+)"\)', code):
        assert name in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_only_what_a_crash_may_undo_commits_asynchronously(name: str) -> None:
    assert ("synchronous_commit" in statement(name)) == (name in ASYNCHRONOUS)
