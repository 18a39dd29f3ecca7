"""The benchmark runs from end to end, at its smallest; how fast anything is is not looked at here."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_short_run_measures_ferryman_and_a_peer_in_one_go(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.benchmarks", "--quick", "--only", "drain"),
            *("--subject", "ferryman", "--subject", "pgqueuer", "--output", str(output)),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    document = json.loads(output.read_text())
    assert document["failures"] == []
    rates = {
        (figure["discipline"], figure["subject"]): figure["median"]
        for figure in document["figures"]
        if figure["metric"] == "per_second"
    }
    assert set(rates) == {
        (discipline, subject)
        for discipline in ("drain, one worker", "drain, two workers")
        for subject in ("Ferryman", "pgqueuer")
    }
    assert all(rate > 0 for rate in rates.values())
    assert [goal["goal"] for goal in document["goals"]] == ["drain, one worker : pgqueuer"]
    assert "round 1/1" in run.stderr
    assert "Goals" in run.stdout
