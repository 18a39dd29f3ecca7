"""What commands print: data on stdout, talk on stderr; colour and motion on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

# Mark and colour of each status; the word always stands beside them.
STATUS_MARKS: Final = {
    "scheduled": ("◷", "medium_purple1"),
    "pending": ("○", "blue"),
    "running": ("▶", "cyan"),
    "retrying": ("↻", "yellow"),
    "completed": ("✓", "green"),
    "dead_letter": ("✗", "red"),
    "cancelled": ("⊘", "default"),
    "expired": ("⧗", "magenta"),
}


def say(text: str) -> None:
    """One line for the person at the terminal."""
    # In one piece: other processes may write to the same terminal.
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def put(text: str) -> None:
    """One line of data."""
    print(text, flush=True)  # noqa: T201


def complain(message: str, *advice: str) -> None:
    """An error: what, where and why; then, indented, what to do next."""
    say(f"ferryman: {message}")
    for line in advice:
        say(f"  {line}")


def put_document(document: Any) -> None:
    """A JSON document: indented on a terminal, one line elsewhere."""
    import json

    put(json.dumps(document, indent=2 if draws(sys.stdout) else None, ensure_ascii=not _is_utf8(sys.stdout)))


def put_table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Aligned columns: drawn to the terminal's width, else whole values without colour."""
    cells = [["" if value is None else harmless(str(value)) for value in row] for row in rows]
    if draws(sys.stdout):
        console().print(drawn_table(headings, cells))
        return
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    for row in [list(headings), *cells]:
        put("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def put_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Names and values, one a line; what is None or empty is left out."""
    filled = [(name, value) for name, value in fields if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in filled), default=0)
    for name, value in filled:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        put(f"{name.ljust(width)}  {harmless(text)}")


def drawn_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """The table for a terminal, statuses with mark and colour."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(heading, value) for heading, value in zip(headings, row, strict=True)))
    return table


def status_text(status: str) -> str:
    """Mark and word of a status."""
    mark, _ = STATUS_MARKS.get(status, ("·", "default"))
    return f"{mark} {status}"


def draws(stream: TextIO) -> bool:
    """Whether this stream is a terminal that can place text and move it."""
    if not stream.isatty():
        return False
    from ferryman.settings import terminal_is_dumb

    return not terminal_is_dumb()


def console() -> Console:
    """Rich on stdout. It follows NO_COLOR by itself."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def harmless(text: str) -> str:
    """Text of others with its control characters made visible: they must not steer this terminal."""
    from ferryman.telemetry.logs import printable

    return printable(text)


def _cell(heading: str, value: str) -> Text:
    from rich.text import Text

    if heading != "STATUS":
        return Text(value)
    return Text(status_text(value), style=STATUS_MARKS.get(value, ("", "default"))[1])


def _is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"
