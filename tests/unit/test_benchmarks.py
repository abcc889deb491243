"""A benchmark, shortened, writes its results in the form that the book reads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
        if not seconds:  # a measurement without curves
            continue
        drawn = next(name for name in ("accuracy", "image_iou", "mean_iou") if name in entry["metrics"])
        assert entry["curve"][-1] == [entry["train_seconds"][0], entry["metrics"][drawn][0]]


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda file: file.stem)
def test_published_results_are_of_real_data_and_three_seeds(file):
    result = json.loads(file.read_text(encoding="utf-8"))
    verify(result)
    assert "real" in result["command"]
    assert all(len(entry["train_seconds"]) >= 3 for entry in result["entries"])
    assert (file.with_suffix(".png")).is_file()


def test_the_readme_quotes_the_published_results():
    result = json.loads((ROOT / "benchmarks" / "results" / "cifar.json").read_text(encoding="utf-8"))
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in result["entries"]:
        seconds = f"{min(entry['train_seconds']):.0f} to {max(entry['train_seconds']):.0f}"
        scores = [f"{100 * min(each):.1f} to {100 * max(each):.1f}" for each in entry["metrics"].values()]
        assert f"| {' | '.join([seconds, *scores])} |" in table


def test_the_readme_quotes_the_semantic_results():
    result = json.loads((ROOT / "benchmarks" / "results" / "semantic.json").read_text(encoding="utf-8"))
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    rows = {cells[1].strip(): cells for line in lines if len(cells := line.split("|")) == 8}
    columns = [("nuclei", "image_iou"), ("nuclei", "dsb"), ("nuclei", "boundary_iou")]
    columns += [("camvid", "mean_iou"), ("camvid", "boundary_iou")]
    for entry in result["entries"]:
        for place, (dataset, metric) in enumerate(columns, start=2):
            if entry["dataset"].startswith(dataset):
                low, high = (f"{pick(entry['metrics'][metric]):.3f}" for pick in (min, max))
                assert rows[entry["name"]][place].strip() == (low if low == high else f"{low} to {high}")


def test_the_readme_quotes_the_adversarial_results():
    result = json.loads((ROOT / "benchmarks" / "results" / "adversarial.json").read_text(encoding="utf-8"))
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    compared = [entry for entry in result["entries"] if "against_alone" in entry]
    assert len(compared) == 8, "two data sets, two shares of the labels, two weights"
    for entry in compared:
        cells = [f"{entry['dataset'].split()[0]}, {entry['name']}"]
        for metric, digits in {"mean_iou": 4, "boundary_iou": 4, "pieces": 1, "holes": 1}.items():
            row = entry["against_alone"][metric]
            cells.append(f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}")
        assert f"| {' | '.join(cells)} |" in table


def in_short(name, *options):
    """Run a benchmark with few data; its last option is the folder of the results, which this reads."""
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--data", "synthetic", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads((options[-1] / f"{name}.json").read_text(encoding="utf-8"))
    verify(result)
    return result


def test_cifar_in_short(tmp_path):
    result = in_short("cifar", "--seeds", "2", "--count", "120", "--out", tmp_path)
    assert [len(entry["train_seconds"]) for entry in result["entries"]] == [2] * 4
    third, same, thrice = (entry["budget_seconds"][0] for entry in result["entries"][1:])
    assert third < same < thrice
    assert (tmp_path / "cifar.png").stat().st_size > 10_000


def test_semantic_in_short(tmp_path):
    command = [sys.executable, ROOT / "benchmarks" / "semantic.py", "--data", "synthetic", "--out", tmp_path]
    small = ["--count", "2", "--share", "0.001"]
    for task, seeds, expected in (("camvid", 1, {("camvid", 1)}), ("nuclei", 2, {("camvid", 1), ("nuclei", 2)})):
        more = [*small, "--task", task, "--seeds", str(seeds)]
        done = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / "semantic.json").read_text(encoding="utf-8"))
        verify(result)
        found = {(entry["dataset"].split()[0], len(entry["train_seconds"])) for entry in result["entries"]}
        assert found == expected
    assert len(result["entries"]) == 9
    assert (tmp_path / "semantic.png").stat().st_size > 10_000


def test_adversarial_in_short(tmp_path):
    result = in_short("adversarial", "--seeds", "2", "--count", "4", "--share", "0.01", "--out", tmp_path)
    weights = [entry["name"].split("weight ")[1] for entry in result["entries"]]
    assert weights == ["0", "0.01", "0.1"] * 4, "two data sets, two shares of the labels"
    for entry in result["entries"]:
        compared = entry.get("against_alone", {})
        assert bool(compared) == (not entry["name"].endswith("weight 0"))
        for name, row in compared.items():
            assert row["low"] <= row["difference"] <= row["high"], name
    assert (tmp_path / "adversarial.png").stat().st_size > 10_000


def test_instances_in_short(tmp_path):
    result = in_short("instances", "--seeds", "1", "--count", "1", "--seconds", "0.01", "--out", tmp_path)
    names = [entry["name"] for entry in result["entries"]]
    assert names == ["Otsu + watershed", "U-Net + watershed", "Mask R-CNN (lesson 07)", "torchvision's default"]
    for entry in result["entries"]:
        assert set(entry["metrics"]) == {"dsb", "ap50", "ap", "box_ap50", "box_ap"}
        assert entry["images_per_second"][0] > 0
        assert entry["peak_mb"][0] > 100
    otsu, *learned = result["entries"]
    assert otsu["parameters"] == [0]
    assert learned[1]["parameters"][0] < 1_000_000 < 40_000_000 < learned[2]["parameters"][0]
    assert (tmp_path / "instances.png").stat().st_size > 10_000


def test_the_readme_quotes_the_instances_results():
    result = json.loads((ROOT / "benchmarks" / "results" / "instances.json").read_text(encoding="utf-8"))
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in result["entries"]:
        cells = [entry["name"]]
        shown = [(entry["metrics"][name], ".3f") for name in ("ap50", "ap", "dsb")]
        shown += [(entry["images_per_second"], ".1f"), ([round(size, -1) for size in entry["peak_mb"]], ".0f")]
        for values, form in shown:
            low, high = (format(pick(values), form) for pick in (min, max))
            cells.append(low if low == high else f"{low} to {high}")
        assert f"| {' | '.join(cells)} |" in table
