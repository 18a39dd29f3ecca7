"""The system account that runs PostgreSQL: the caller's own, or `nobody` for root, whom it refuses."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ferryman.embedded.failures import EmbeddedServerError

_PROBE_SECONDS = 20.0


class PopenIdentity(TypedDict, total=False):
    """The arguments of `subprocess.Popen` that choose an account."""

    user: int
    group: int
    extra_groups: Sequence[int]


@dataclass(frozen=True, slots=True)
class Account:
    """An account other than the caller's; only root can use one."""

    name: str
    uid: int
    gid: int

    def take(self, target: Path | int) -> None:
        """Makes this account the owner of a path or an open file."""
        os.chown(target, self.uid, self.gid)


def server_account() -> Account | None:
    """`nobody` when the caller is root, else None: the server then runs as the caller.

    Raises EmbeddedServerError for root on a system without `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise EmbeddedServerError(
            "PostgreSQL does not run as root and there is no account `nobody`: run this as a plain user"
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def identity(account: Account | None) -> PopenIdentity:
    """What `subprocess` needs to run a program as `account`."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def clean_environment() -> dict[str, str]:
    """An environment without the caller's secrets and PG* variables, which would steer initdb and psql."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C"}


def can_run(command: Sequence[str | Path], account: Account | None) -> bool:
    """Whether `account` can run this quick command and it succeeds."""
    try:
        finished = subprocess.run(
            command,
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_SECONDS,
            **identity(account),
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return finished.returncode == 0


def can_enter(directory: Path, account: Account | None) -> bool:
    """Whether `account` reaches `directory` through all of its parents and may write there."""
    return can_run(["/bin/sh", "-c", 'cd -- "$1" && test -w .', "sh", directory], account)
