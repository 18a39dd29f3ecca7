"""The directory of a server's data: a given one that is kept, or a temporary one that goes."""

import shutil
import tempfile
from pathlib import Path

from ferryman.embedded.accounts import Account, can_enter
from ferryman.embedded.failures import DataDirUnreachableError

_TEMPORARY_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (a fresh folder of random name is made in it)


class DataDir:
    """A server's data directory.

    The server's own account owns only the subfolder `name`; what lies beside it (log, passwords) stays the
    caller's.
    Raises DataDirUnreachableError if that account cannot reach it.
    """

    def __init__(self, given: Path | None, name: str, account: Account | None) -> None:
        self.is_temporary = given is None
        self._account = account
        if given is None:
            self.root = self._make_temporary(name)
        else:
            self.root = given.expanduser().absolute()
            self._prepare(self.root, name)
        self.own = self.root / name

    def fresh_folder(self, name: str) -> Path:
        """An empty folder beside `own` that belongs to the server's account, too."""
        folder = self.root / name
        shutil.rmtree(folder, ignore_errors=True)
        self._make_folder(folder)
        return folder

    def remove(self) -> None:
        """Removes a temporary directory; keeps a given one."""
        if self.is_temporary:
            shutil.rmtree(self.root, ignore_errors=True)

    def _make_temporary(self, name: str) -> Path:
        for parent in dict.fromkeys([tempfile.gettempdir(), *_TEMPORARY_PARENTS]):
            if not Path(parent).is_dir():
                continue
            root = Path(tempfile.mkdtemp(prefix="ferryman-", dir=parent))
            try:
                self._prepare(root, name)
            except DataDirUnreachableError:
                shutil.rmtree(root, ignore_errors=True)
                continue
            return root
        raise DataDirUnreachableError(
            f"no temporary directory can be used by {self._who()}: name a data directory"
        )

    def _prepare(self, root: Path, name: str) -> None:
        made = [path for path in (root, *root.parents) if not path.exists()]
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account is not None:
            # It may pass through what is made here to what is its own, but neither list nor read the rest.
            for path in [root] if self.is_temporary else made:
                path.chmod(0o711)
        own = root / name
        if not own.exists():
            self._make_folder(own)
        if not can_enter(own, self._account):
            raise DataDirUnreachableError(
                f"{own} cannot be used by {self._who()}: choose a data directory that everybody may reach, "
                "such as /var/lib/ferryman, or run this as a plain user"
            )

    def _make_folder(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        if self._account is not None:
            self._account.take(folder)

    def _who(self) -> str:
        return (
            "you"
            if self._account is None
            else f"the account `{self._account.name}`, which runs the server for root"
        )
