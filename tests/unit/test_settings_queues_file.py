"""The queues file in both languages, and what is said of a wrong one."""

from pathlib import Path

import pytest

from ferryman.core.queues import tenant_limits
from ferryman.settings import SettingsError
from ferryman.settings.queues_file import read_queues_file

TOML = """
[queues.emails]
maxSize = 50
[queues.emails.retry]
maxRetries = 7
[queues.emails.types.invoice]
timeoutMs = 5000
[queues.emails.tenants.acme]
weight = 2.5
"""
YAML = """
queues:
  emails:
    maxSize: 50
    retry: {maxRetries: 7}
    types:
      invoice: {timeoutMs: 5000}
    tenants:
      acme: {weight: 2.5}
"""


@pytest.mark.parametrize(("name", "content"), [("q.toml", TOML), ("q.yaml", YAML), ("q.yml", YAML)])
def test_both_languages_say_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    emails = read_queues_file(tmp_path / name)["emails"]
    assert emails.max_size == 50
    assert emails.retry.max_retries == 7
    assert emails.types["invoice"].timeout_ms == 5000
    assert tenant_limits(emails, "acme").weight == 2.5


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("q.toml", "queues = 3", "`queues` takes one table for each queue"),
        ("q.toml", "[other]\n", "it takes one table `queues`"),
        ("q.toml", "[queues.emails", "Expected ']'"),
        ("q.yaml", "queues: [", "while parsing"),
        ("q.yaml", "queues: {Emails: {}}", "queues.Emails: a queue's name is"),
        ("q.yaml", "queues: {emails: {maxSize: 0}}", "queues.emails.maxSize: Expected `int` >= 1"),
        (
            "q.yaml",
            "queues: {emails: {retry: {maxRetries: x}}}",
            "queues.emails.retry.maxRetries: Expected `int`",
        ),
        (
            "q.yaml",
            "queues: {emails: {maxsize: 1}}",
            "queues.emails: Object contains unknown field `maxsize`",
        ),
        ("q.yaml", "!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("q.json", "{}", "its name ends neither"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_field(
    tmp_path: Path, name: str, content: str, problem: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        read_queues_file(path)
    assert str(path) in str(caught.value)
    assert problem in str(caught.value)
