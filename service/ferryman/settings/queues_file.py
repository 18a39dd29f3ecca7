"""The queues file: `queues.<name>` tables with the settings of contract, section 5, in TOML or YAML."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ferryman.core.queues import QueueSettings, is_queue_name
from ferryman.settings.environment import SettingsError


def read_queues_file(path: Path) -> dict[str, QueueSettings]:
    """The queues that the file names, in its order. Raises SettingsError naming file and field."""
    document = _parse(path)
    if not isinstance(document, dict) or set(document) != {"queues"}:
        raise _wrong(path, "it takes one table `queues` and nothing beside it")
    queues = document["queues"]
    if not isinstance(queues, dict):
        raise _wrong(path, "`queues` takes one table for each queue")
    return {str(name): _settings(path, str(name), fields) for name, fields in queues.items()}


def _parse(path: Path) -> object:
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".toml":
            import tomllib

            return tomllib.loads(content.decode("utf-8"))
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            try:
                return yaml.safe_load(content)
            except yaml.YAMLError as error:
                raise ValueError(" ".join(str(error).split())) from None
    except (OSError, ValueError) as error:
        raise _wrong(path, str(error)) from None
    raise _wrong(path, "its name ends neither in .toml nor in .yaml or .yml")


def _settings(path: Path, name: str, fields: object) -> QueueSettings:
    if not is_queue_name(name):
        raise _wrong(
            path, f"queues.{name}: a queue's name is 1–63 of a–z 0–9 . _ -, and starts with a letter or digit"
        )
    try:
        return msgspec.convert(fields, QueueSettings)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        raise _wrong(path, f"queues.{name}{where.rstrip('`')}: {problem}") from None


def _wrong(path: Path, problem: str) -> SettingsError:
    return SettingsError(f"the queues file {path} is wrong: {problem}", "FERRYMAN_QUEUES_FILE names it.")
