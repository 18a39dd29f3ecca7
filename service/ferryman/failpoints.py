"""Named points between two lines of the engine where a test lets the process die.

Nothing is armed unless the process is started with FERRYMAN_FAILPOINT, and then it says so.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final

NAMES: Final = frozenset(
    {
        "submit.before_insert",
        "submit.after_insert",
        "submit.after_push",
        "cancel.after_ledger",
        "retry.after_ledger",
        "worker.after_step",
        "worker.after_claim",
        "worker.in_handler",
        "worker.before_settle",
        "worker.after_settle",
        "worker.after_release",
        "worker.on_stop",
        "maintainer.after_overdue",
        "maintainer.after_reap",
        "maintainer.after_resync",
        "maintainer.after_expire",
        "maintainer.in_rebuild",
        "maintainer.after_sweep",
        "maintainer.in_relay",
        "maintainer.after_relay",
        "maintainer.after_take",
    }
)

_armed: str | None = None


def arm(name: str) -> None:
    """Let the process kill itself at `name`. Raises ValueError for an unknown name."""
    global _armed
    if name not in NAMES:
        raise ValueError(f"FERRYMAN_FAILPOINT takes one of {', '.join(sorted(NAMES))}; got {name!r}")
    print(f"ferryman: failpoint {name} is armed, this process will die", file=sys.stderr)  # noqa: T201
    _armed = name


def reach(name: str) -> None:
    """Die here by SIGKILL if this point is armed."""
    if _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)
