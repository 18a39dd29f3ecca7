"""The ready file of `ferryman dev`: how scripts find the stack, and that it is up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ferryman.embedded.secret_files import write_secret


class ReadyFile:
    """Exists only while the stack is up; readable by its owner alone; replaced as a whole."""

    def __init__(self, path: Path | None) -> None:
        self._path = path.absolute() if path else None

    def prepare(self) -> None:
        """Remove what an earlier stack left, so that nobody takes it for ours. Raises OSError."""
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.unlink(missing_ok=True)

    def write(self, description: dict[str, Any]) -> None:
        """Tell everything. Raises OSError."""
        if self._path is not None:
            write_secret(self._path, json.dumps(description, indent=2) + "\n")

    def remove(self) -> None:
        """The stack is going down."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
