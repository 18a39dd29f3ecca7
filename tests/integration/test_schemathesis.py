"""Schemathesis: thousands of generated calls over every operation of the description, with every check on.

Which refusals of right requests are let pass, and why, stands in tests/support/schemathesis_hooks.py.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api, on_fresh_stores, token
from tests.support.ends import bury, introduce
from tests.support.servers import Database

FEWEST_CASES = 1_500
EVERYTHING = token("user", "admin", "platform", "service", ttl_s=7_200)
ROOT = Path(__file__).parents[2]


async def known_ids(api: Api) -> dict[str, list[str]]:
    """Things that calls may be about, by the names of the paths' parameters."""
    letters = await bury(api, 200, bearer=EVERYTHING)
    jobs = (await api.call("GET", "/api/jobs?limit=200", bearer=EVERYTHING)).json["jobs"]
    return {
        "jobId": [job["jobId"] for job in jobs],
        "deadLetterId": letters,
        "workerId": await introduce(api, 20),
    }


async def generate(api: Api, directory: Path, *, seconds: int, seed: int) -> tuple[int, str, dict[str, Any]]:
    """Run Schemathesis: its exit code, what it printed and its report."""
    report = directory / "report.json"
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "st",
        "run",
        f"http://127.0.0.1:{api.port}/openapi.json",
        f"--header=Authorization: Bearer {EVERYTHING}",
        "--checks=all",
        "--continue-on-failure",
        f"--max-time={seconds}",
        f"--seed={seed}",
        "--request-timeout=10",
        "--no-color",
        f"--report-json-path={report}",
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
            "FERRYMAN_TEST_KNOWN_IDS": json.dumps(await known_ids(api)),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), json.loads(report.read_text())


async def test_no_generated_call_is_answered_otherwise_than_described(
    ledger_database: Database, redis_url: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    async with on_fresh_stores(ledger_database.service_url, redis_url) as api:
        code, output, report = await generate(
            api,
            tmp_path,
            seconds=pytestconfig.getoption("--schemathesis-seconds"),
            seed=pytestconfig.getoption("--schemathesis-seed"),
        )
        assert (await api.call("GET", "/healthz")).status == 200
    print(output)
    assert code == 0, output
    assert report["operations"]["tested"] == report["operations"]["total"]
    assert report["test_cases"]["generated"] >= FEWEST_CASES
