"""The frame of the command line: help, exit codes, durations, tables, what is said of errors."""

import argparse
import io
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.cli import durations, failures, terminal
from ferryman.cli.main import build_parser, main
from ferryman.client import Problem, UnreachableError
from ferryman.client.failures import refusal
from ferryman.embedded import EmbeddedServerError
from ferryman.ports import LedgerError, LedgerUnavailableError
from ferryman.settings import SettingsError, variables

COMMANDS = [
    ["demo"], ["dev"], ["api"], ["worker"], ["migrate"], ["retention"], ["reconcile-dead-letter"], ["token"],
    ["doctor"], ["jobs"], ["queues"], ["dead-letters"],
    *(["jobs", name] for name in ("submit", "list", "get", "watch", "cancel", "retry")),
    *(["queues", name] for name in ("list", "get", "set", "pause", "resume", "delete")),
    *(["dead-letters", name] for name in ("list", "get", "requeue", "discard")),
    *(["webhooks", name] for name in ("list", "add", "rotate", "remove", "deliveries")),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert f"usage: ferryman {' '.join(command)}" in capsys.readouterr().out


def test_help_loads_no_library() -> None:
    """It must come at once; so nothing but the standard library may be imported for it."""
    program = (
        "import sys, contextlib, io\n"
        "from ferryman.cli.main import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])\n"
        "heavy = {'aiohttp', 'asyncio', 'asyncpg', 'arq', 'redis', 'rich', 'msgspec', 'yaml', 'jwt'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        [], ["no-such-command"], ["jobs"], ["jobs", "submit"], ["jobs", "submit", "chat", "--delay", "5"],
        ["jobs", "submit", "chat", "--message", "m", "--input", "{}"], ["jobs", "list", "--limit", "0"],
        ["jobs", "list", "--metadata", "key"], ["queues", "set", "q", "maxSize"],
        ["dev", "--workers", "-1"], ["dev", "--queue", "Bad Name"], ["dev", "--port", "x"],
        ["worker", "--concurrency", "0"], ["worker", "--queue", ""],
        ["worker", "--handlers", "a", "--settings", "b"],
        ["api", "--port", "65536"], ["token", "--role", "king"], ["--output", "xml", "doctor"],
        ["reconcile-dead-letter", "--dry-run", "--digest", "d"], ["jobs", "list", "--out", "json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ferryman: ")
    assert "--help" in said.err


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (["doctor"], "table"),
        (["doctor", "--output", "json"], "json"),
        (["--output", "json", "doctor"], "json"),
        (["jobs", "--output", "json", "get", "j"], "json"),
        (["--output", "json", "jobs", "get", "j"], "json"),
        (["jobs", "get", "-o", "json", "j"], "json"),
        (["--output", "json", "jobs", "get", "j", "--output", "table"], "table"),
    ],
)
def test_output_may_stand_before_and_after_the_command(words: list[str], output: str) -> None:
    assert build_parser().parse_args(words).output == output


@pytest.mark.parametrize(
    ("text", "ms"), [("500ms", 500), ("90s", 90_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000)]
)
def test_durations_are_read(text: str, ms: int) -> None:
    assert durations.duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "-5s", "1.5h", "5 s", "5S", "s", "1h30m", "\u0665s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="500ms, 90s, 10m, 2h or 1d"):
        durations.duration_ms(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, ""), (0, "0 ms"), (512, "512 ms"), (2_140, "2.1 s"), (245_000, "4 m 05 s"),
        (11_520_000, "3 h 12 m"), (187_200_000, "2 d 04 h"),
    ],
)  # fmt: skip
def test_durations_are_shown(ms: float | None, text: str) -> None:
    assert durations.shown(ms) == text


def test_seconds_take_numbers_and_durations() -> None:
    assert [durations.seconds(text) for text in ("90", "2h", "500ms")] == [90, 7_200, 1]


def test_tables_off_a_terminal_are_plain_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.put_table(("STATUS", "NOTE"), [("completed", "x" * 300), ("running", None)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["STATUS     NOTE", f"completed  {'x' * 300}", "running"]


def test_tables_cannot_be_steered_by_their_content(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.put_table(("NOTE",), [("\x1b[2Ja\nb",)])
    terminal.put_fields([("note", "\x1b[2J"), ("none", None), ("empty", "")])
    assert capsys.readouterr().out.splitlines() == ["NOTE", r"\x1b[2Ja\nb", r"note  \x1b[2J"]


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("variable", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_colours_are_left_out_where_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    screen = FakeTerminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal.put_table(("STATUS",), [("completed",)])
    assert "\x1b[32m✓ completed" in screen.getvalue()
    screen.truncate(0)
    monkeypatch.setenv(variable, value)
    terminal.put_table(("STATUS",), [("completed",)])
    assert "\x1b[32m" not in screen.getvalue()
    assert "completed" in screen.getvalue()


def problem(status: int, code: str) -> Problem:
    return Problem(status=status, code=code, title="t", detail="what\x1b[2J", correlation_id="c1")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingsError("X is not set", "It takes y."), 2, "ferryman: X is not set\n  It takes y.\n"),
        (failures.CommandError("no", "do that"), 1, "ferryman: no\n  do that\n"),
        (UnreachableError("nobody"), 3, "ferryman doctor"),
        (refusal(problem(503, "ledger_unavailable")), 3, "code ledger_unavailable, correlation c1"),
        (refusal(problem(404, "not_found")), 1, r"ferryman: what\x1b[2J"),
        (refusal(problem(401, "unauthorized")), 1, "FERRYMAN_TOKEN"),
        (refusal(problem(429, "queue_full")), 1, "Try again in 1 s"),
        (LedgerUnavailableError("the ledger cannot be reached"), 3, "the ledger cannot be reached"),
        (LedgerError("broken"), 1, "ferryman: broken"),
        (EmbeddedServerError("no server\nlast \x1bwords"), 1, "ferryman: no server\n  last \\x1bwords\n"),
        (ExceptionGroup("g", [failures.CommandError("inner", code=3)]), 3, "ferryman: inner"),
        (ZeroDivisionError("oops"), 1, "ferryman: ZeroDivisionError: oops\n  --debug shows the traceback.\n"),
    ],
)
def test_errors_have_their_exit_code_and_a_next_step(
    error: Exception, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.report(error) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert "\x1b" not in told.err


def test_documentation_names_every_command_and_variable() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text()
    missing = [variable.name for variable in variables.ALL if variable.name not in page]
    missing += [word for command in COMMANDS for word in command if word not in page]
    assert missing == []
