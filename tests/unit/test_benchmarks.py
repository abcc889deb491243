"""A benchmark, shortened, writes its results in the form that the book reads."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def verify(result):
    assert {"date", "machine", "versions", "command", "entries"} == set(result)
    for entry in result["entries"]:
        assert {"name", "dataset", "budget_seconds", "train_seconds", "metrics", "curve"} <= set(entry)
        runs = len(entry["train_seconds"])
        for scores in entry["metrics"].values():
            assert len(scores) == runs
            assert all(0 <= score <= 1 for score in scores)
        seconds = [at for at, _ in entry["curve"]]
        assert seconds == sorted(seconds)
        assert entry["curve"][-1] == [entry["train_seconds"][0], entry["metrics"]["accuracy"][0]]


def test_cifar_in_short(tmp_path):
    options = ["--seeds", "2", "--data", "synthetic", "--count", "120", "--out", tmp_path]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "cifar.py", *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "cifar.json").read_text(encoding="utf-8"))
    verify(result)
    assert [len(entry["train_seconds"]) for entry in result["entries"]] == [2] * 4
    third, same, thrice = (entry["budget_seconds"][0] for entry in result["entries"][1:])
    assert third < same < thrice
    assert (tmp_path / "cifar.png").stat().st_size > 10_000
