"""The SQL of the ledger: one statement a file in `sql/`, its promise on top."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("ferryman.ledger") / "sql"


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql` without its leading comment. Raises FileNotFoundError."""
    lines = (_FOLDER / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line and not line.startswith("--"))
    # The name goes first, so that pg_stat_statements, logs and locks can be read.
    return f"/* ferryman:{name} */\n" + "\n".join(lines[start:])
