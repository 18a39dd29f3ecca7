"""`ferryman demo`: from nothing to closing books that balance."""

from pathlib import Path

from tests.support.commands import clean_environment, ferryman


async def test_demo_shows_every_kind_of_end_and_balances(server_dir: Path) -> None:
    # What configures an installation must not reach the demonstration.
    environment = clean_environment(
        TMPDIR=str(server_dir), FERRYMAN_DATABASE_URL="nonsense", FERRYMAN_PORT="1"
    )
    done = await ferryman("demo", environment=environment, within_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "Submitting 60 jobs over REST: chat 20, memory 18, notification 15, flaky 4, report 2, doomed 1"
        in (done.stdout)
    )
    assert "Books   submitted 60 = completed 58 + dead letters 1 + cancelled 1   ✓ balanced" in done.stdout
    assert "dead letter: PERMANENT there is no template 'farewell'   (asked for)" in done.stdout
    assert "cancelled while it ran" in done.stdout
    assert "the scheduled job completed" in done.stdout
    assert "Retries 4" in done.stdout
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert list(server_dir.iterdir()) == []
