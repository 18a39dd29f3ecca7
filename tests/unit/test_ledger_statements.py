"""Every statement stands in a file of its own, with its promise on top, and is used."""

import re
from pathlib import Path

import pytest

import ferryman.ledger
from ferryman.ledger import statements

FOLDER = Path(ferryman.ledger.__file__).parent


@pytest.mark.parametrize("name", statements.names())
def test_a_statement_starts_with_its_promise(name: str) -> None:
    text = (FOLDER / "sql" / f"{name}.sql").read_text()
    assert text.startswith("-- ")
    assert re.match(r"/\* ferryman:\w+ \*/\n(WITH|SELECT|INSERT|UPDATE|DELETE)\b", statements.statement(name))


def test_every_statement_is_used_and_there() -> None:
    code = "".join(path.read_text() for path in FOLDER.glob("*.py"))
    named = {name for name in statements.names() if f'"{name}"' in code}
    assert named == set(statements.names())
    for name in re.findall(r'statement\("(\w+)"\)', code):
        assert name in statements.names()
