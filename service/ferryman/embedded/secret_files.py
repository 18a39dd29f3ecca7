"""Files that only their owner may read."""

import os
from pathlib import Path

from ferryman.embedded.accounts import Account


def write_secret(path: Path, text: str, owner: Account | None = None) -> None:
    """Replaces `path` by a file of mode 0600, never readable by others, not even for a moment."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if owner is not None:
            owner.take(descriptor)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)
