"""Guards for what the layout of the repository must never become."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# In pieces, or this file would be the first to break its own rule.
PACKAGE_HOSTS = [
    ".".join(labels)
    for labels in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("repo1", "maven", "org"),
        ("repo", "maven", "apache", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
    )
]


@pytest.mark.parametrize("folder", ["operator", "service"])
def test_source_folders_are_no_packages(folder: str) -> None:
    assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/ would shadow modules from the root"


def test_standard_library_imports_from_the_root() -> None:
    program = "import sys, collections, operator; sys.exit(collections.Counter('aa') != {'a': 2})"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=30)


def test_no_file_names_a_package_host() -> None:
    """Where packages come from is decided by the machine that installs, not by this repository."""
    found = [
        f"{path.relative_to(ROOT)} names {host}"
        for path in tracked_files()
        for host in PACKAGE_HOSTS
        if host.encode() in path.read_bytes()
    ]
    assert found == []


def tracked_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]
