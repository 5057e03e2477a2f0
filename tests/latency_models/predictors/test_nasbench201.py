"""The benchmark of few-shot prediction, on an excerpt of its data (see data/README.md)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[3] / "benchmarks" / "nasbench201_transfer.py"
_EXCERPT = Path(__file__).parents[1] / "data" / "nasbench201_excerpt.csv"

pytestmark = pytest.mark.skipif(
    not _SCRIPT.exists(), reason="benchmarks are not in a source distribution"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: text for key, text in os.environ.items() if key != "BOARDFRONT_DATA"}
    return subprocess.run(
        [sys.executable, str(_SCRIPT), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )


def test_ten_measurements_of_a_real_board_order_its_networks() -> None:
    done = run("--data", str(_EXCERPT), "--draws", "4", "--samples", "10", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    # Of 396 connected networks 386 are predicted; the figures on all are in docs/benchmarks.md.
    assert rows["transfer"]["spearman_mean"] > 0.9
    assert rows["transfer"]["spearman_mean"] > rows["one-hot ridge"]["spearman_mean"] + 0.2
    assert rows["transfer"]["mape_mean"] < rows["one-hot ridge"]["mape_mean"] / 2
    assert rows["transfer, calibrated"]["covered_mean"] > 0.85
    assert rows["transfer, calibrated"]["spearman_mean"] == rows["transfer"]["spearman_mean"]


def test_without_data_it_says_what_to_give() -> None:
    done = run()
    assert done.returncode == 2
    assert "give --data or set BOARDFRONT_DATA" in done.stderr
