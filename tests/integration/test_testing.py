"""`ferryman.testing` as an application uses it: the examples of docs/testing.md, run as they stand."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.support.commands import REPOSITORY, clean_environment

GUIDE = REPOSITORY / "docs" / "testing.md"
BLOCK = re.compile(r"```python\n# (?P<path>\S+\.py)\n(?P<code>.*?)```", re.DOTALL)


def written(folder: Path) -> list[str]:
    """The guide's examples as files; their paths."""
    paths = []
    for block in BLOCK.finditer(GUIDE.read_text(encoding="utf-8")):
        file = folder / block["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block["code"], encoding="utf-8")
        paths.append(block["path"])
    return paths


async def run_pytest(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = clean_environment()
    environment["PYTHONPATH"] += f":{folder}"
    return await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"),
            *("-o", "asyncio_default_fixture_loop_scope=function"),
            *("-W", "error", "--rootdir", str(folder), *words),
        ],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
    )


async def test_the_examples_of_the_guide_pass(tmp_path: Path) -> None:
    assert written(tmp_path) == [
        "shop/jobs.py",
        "tests/test_invoice.py",
        "tests/conftest.py",
        "tests/test_pipeline.py",
    ]
    done = await run_pytest(tmp_path, "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout


async def test_nothing_is_a_fixture_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "test_without.py").write_text("def test_it(ferryman_pipeline): ...")
    done = await run_pytest(tmp_path)
    assert done.returncode == 1
    assert "fixture 'ferryman_pipeline' not found" in done.stdout


async def test_a_pipeline_is_gone_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ferryman.testing"]\n')
    (tmp_path / "test_it.py").write_text(
        "def test_it(ferryman_pipeline):\n"
        "    print('AT', ferryman_pipeline.database_url)\n"
        "    assert ferryman_pipeline.token('service', tenant=None, user=None)\n"
    )
    done = await run_pytest(tmp_path, "-s")
    assert done.returncode == 0, done.stdout + done.stderr
    url = re.search(r"AT (\S+)", done.stdout)
    assert url is not None
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncpg.connect(url[1], timeout=5)
