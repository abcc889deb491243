"""Settings, seeds and the scoreboard."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from course_lib import lesson, paths, settings
from course_lib.data import load
from course_lib.errors import DataError, InputError, SettingsError


@pytest.fixture(autouse=True)
def own_environment(monkeypatch, tmp_path):
    for name in ("PROFILE", "DATA", "DEVICE", "SEED"):
        monkeypatch.delenv(f"COURSE_{name}", raising=False)
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))


@pytest.fixture
def cells():
    return load("cells", "val", count=2)


def test_defaults():
    assert [settings.setting(name) for name in ("profile", "data", "device")] == ["lesson", "auto", "auto"]
    assert settings.seed() == 0


def test_argument_wins_over_environment_wins_over_default(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "smoke")
    monkeypatch.setenv("COURSE_SEED", "7")
    assert settings.setting("profile") == "smoke"
    assert settings.setting("profile", "full") == "full"
    assert settings.seed() == 7
    assert settings.seed(0) == 0


@pytest.mark.parametrize("name", ["profile", "data", "device"])
def test_unknown_value_lists_the_known_ones(name):
    with pytest.raises(SettingsError) as error:
        settings.setting(name, "fast")
    assert f"{name} = 'fast' is not known" in str(error.value)
    assert ", ".join(settings.CHOICES[name]) in str(error.value)


@pytest.mark.parametrize("value", ["-1", "1.5", "one", True])
def test_seed_must_be_a_whole_number(value):
    with pytest.raises(SettingsError, match="not a whole number"):
        settings.seed(value)


def test_unknown_variable_is_refused_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("COURSE_PROFIL", "smoke")
    with pytest.raises(SettingsError, match="did you mean COURSE_PROFILE"):
        lesson.start("01_thresholding", device="cpu")


def test_start_prints_its_card_and_seeds_every_generator(capsys):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002 - the global generator is meant

    started = lesson.start("01_thresholding", profile="smoke", data="synthetic", device="cpu", seed=3)
    first = draw()
    lesson.start("01_thresholding", profile="smoke", data="synthetic", device="cpu", seed=3)
    assert draw() == first
    lesson.start("01_thresholding", profile="smoke", data="synthetic", device="cpu", seed=4)
    assert draw() != first
    assert started.number == "01"
    card = capsys.readouterr().out
    assert "Lesson 01: thresholding" in card
    assert "profile smoke | data synthetic | device cpu | seed 3" in card


def test_card_names_the_expected_time(capsys):
    lesson.start("01_thresholding", profile="lesson", device="cpu", minutes={"lesson": 2})
    assert "about 2 minutes" in capsys.readouterr().out


def test_missing_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match=r"'cuda' is not present(.|\n)*choose auto, or one of cpu"):
        lesson.start("01_thresholding", device="cuda")
    assert lesson.start("01_thresholding", device="auto").device.type == "cpu"


@pytest.mark.parametrize("profile", ["smoke", "lesson", "full"])
def test_pick(profile):
    started = lesson.start("01_thresholding", profile=profile, device="cpu")
    assert started.pick(smoke="smoke", lesson="lesson", full="full") == profile


def test_record_has_the_agreed_form(cells):
    started = lesson.start("01_thresholding", profile="smoke", device="cpu")
    started.record("otsu", cells, {"image_iou": 0.81234567, "dsb": 1.0}, seconds=1.5)
    [found] = json.loads(paths.scoreboard_file().read_text(encoding="utf-8"))
    assert found.pop("peak_mb") > 50
    assert found == {
        "lesson": "01",
        "method": "otsu",
        "dataset": "cells",
        "data": "synthetic",
        "split": "val",
        "profile": "smoke",
        "device": "cpu",
        "seed": 0,
        "seconds": 1.5,
        "train_seconds": 0.0,
        "parameters": 0,
        "metrics": {"image_iou": 0.8123, "dsb": 1.0},
    }


def test_a_newer_record_replaces_the_older_of_its_kind_only(cells):
    started = lesson.start("01_thresholding", profile="smoke", device="cpu")
    for method, value in (("otsu", 0.1), ("watershed", 0.2), ("otsu", 0.3)):
        started.record(method, cells, {"dsb": value}, seconds=1)
    assert [(r["method"], r["metrics"]["dsb"]) for r in lesson.scoreboard()] == [("watershed", 0.2), ("otsu", 0.3)]


def test_a_damaged_scoreboard_is_named(cells):
    paths.scoreboard_file().parent.mkdir(parents=True)
    paths.scoreboard_file().write_text("[{", encoding="utf-8")
    with pytest.raises(DataError, match=r"scoreboard\.json is no scoreboard"):
        lesson.scoreboard()


def test_records_made_at_once_are_all_kept(cells):
    started = lesson.start("01_thresholding", profile="smoke", device="cpu")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: started.record(f"method {i}", cells, {"dsb": 0.5}, seconds=1), range(24)))
    assert len(lesson.scoreboard()) == 24


@pytest.mark.parametrize(
    ("found", "message"),
    [({"iou": 0.5}, "unknown metrics: iou"), ({"dsb": 81.0}, "outside 0 to 1"), ({"dsb": float("nan")}, "outside")],
)
def test_record_refuses(cells, found, message):
    started = lesson.start("01_thresholding", profile="smoke", device="cpu")
    with pytest.raises(InputError, match=message):
        started.record("otsu", cells, found, seconds=1)
    assert lesson.scoreboard() == []
