"""Published weights: sound, small, as good as their card says; and what happens when they are not."""

import json

import pytest
import torch
import torchvision

from course_lib import data, metrics, weights
from course_lib.cli.errors import NotebookError
from course_lib.cli.weights import list_, make
from course_lib.errors import InputError
from course_lib.models.classifier import Classifier
from course_lib.models.mask_rcnn import label_map
from course_lib.training import TrainingError

NAMES = list(weights.MODELS)
SCORES = {"cifar_cnn": {"accuracy", "mirrored"}, "fcn_streets": {"mean_iou"}, "unet_nuclei": {"image_iou", "dsb"}}
SCORES["mask_rcnn_nuclei"] = {"ap50", "ap", "dsb", "train_seconds"}
SCORES |= {name: {"image_iou", "dsb", "train_seconds"} for name in ("fcn_nuclei", "unet_gan_nuclei")}


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_fit_their_network_and_card(name):
    model = weights.load(name)
    assert not model.training
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    card = weights.card(name)
    assert card["command"] == f"course weights make {name}"
    assert {"data", "recipe", "parameters", "date", "sha256", *SCORES[name]} <= set(card)


def test_they_stay_small():
    sizes = [file.stat().st_size for file in weights.folder().glob("*.safetensors")]
    assert len(sizes) == len(NAMES)
    assert max(sizes) <= 2_000_000
    assert sum(sizes) <= 1_750_000 * len(NAMES)


@pytest.mark.real
def test_the_classifier_is_as_good_as_its_card_says(mirror):
    test = data.load("cifar10", "test", mode="real")
    model, card = weights.load("cifar_cnn"), weights.card("cifar_cnn")
    with torch.inference_mode():
        logits = torch.cat([model(images / 255) for images in test.images.split(500)])
    accuracy = (logits.argmax(1) == test.labels).float().mean().item()
    assert accuracy == pytest.approx(float(card["accuracy"]), abs=0.003)
    assert accuracy >= 0.84


@pytest.mark.real
@pytest.mark.parametrize(("name", "least"), [("unet_nuclei", 0.84), ("fcn_nuclei", 0.82), ("unet_gan_nuclei", 0.84)])
def test_networks_for_nuclei_are_as_good_as_their_cards_say(mirror, name, least):
    model, card = weights.load(name), weights.card(name)
    val = data.load("nuclei", "val", mode="real")
    with torch.inference_mode():
        scores = [metrics.image_iou(model(image[None] / 255).argmax(1)[0], mask) for image, mask in val]
    assert sum(scores) / len(scores) == pytest.approx(float(card["image_iou"]), abs=0.005)
    assert sum(scores) / len(scores) >= least


@pytest.mark.real
def test_the_mask_rcnn_is_as_good_as_its_card_says(mirror):
    model, card = weights.load("mask_rcnn_nuclei"), weights.card("mask_rcnn_nuclei")
    val = data.load("nuclei", "val", mode="real", task="instance")
    with torch.inference_mode():
        found = [label_map(model([image / 255])[0]) for image, _ in val]
    targets = (metrics.to_label_map(target["masks"]) for _, target in val)
    scores = [metrics.dsb_score(*pair) for pair in zip(found, targets, strict=True)]
    assert sum(scores) / len(scores) == pytest.approx(float(card["dsb"]), abs=0.01)
    assert sum(scores) / len(scores) >= 0.5


def test_the_fcn_is_as_good_as_its_card_says():
    model, card, matrix = weights.load("fcn_streets"), weights.card("fcn_streets"), metrics.ConfusionMatrix(11)
    with torch.inference_mode():
        for image, mask in data.load("camvid", "val", mode="synthetic", size=(180, 240)):
            matrix.update(model(image[None] / 255).argmax(1)[0], mask)
    assert matrix.summary()["mean_iou"] == pytest.approx(float(card["mean_iou"]), abs=0.005)


def test_own_weights_come_back(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path))
    with pytest.raises(TrainingError, match="there are no weights"):
        weights.load("cifar_cnn", own=True)
    torch.manual_seed(0)
    model = Classifier()
    assert weights.save("cifar_cnn", model, accuracy=0.5).is_relative_to(tmp_path)
    again = weights.load("cifar_cnn", own=True)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_changed_weights_are_refused(tmp_path, monkeypatch):
    for file in weights.folder().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(weights, "folder", lambda: tmp_path)
    weights.load("cifar_cnn")
    file = tmp_path / "cifar_cnn.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    card = json.loads((tmp_path / "cifar_cnn.json").read_text(encoding="utf-8"))
    if weights.checksum(file) == card["sha256"]:
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(TrainingError, match="was changed"):
        weights.load("cifar_cnn")


def test_unknown_names_list_the_known():
    with pytest.raises(InputError, match=r"(?s)no weights are named 'cifar'.*cifar_cnn"):
        weights.load("cifar")


def test_one_command_trains_and_publishes(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "folder", lambda: tmp_path / "published")
    monkeypatch.setenv("COURSE_BUILD_DIR", str(tmp_path / "build"))
    monkeypatch.setenv("COURSE_SEED", "5")
    make("cifar_cnn", profile="smoke", data="synthetic")
    trained, published = weights.load("cifar_cnn", own=True), weights.load("cifar_cnn")
    for name, tensor in trained.state_dict().items():
        assert torch.allclose(tensor, published.state_dict()[name], rtol=1e-3, atol=1e-3), name
    card = weights.card("cifar_cnn")
    assert "seed 0" in card["recipe"]
    assert card["command"].endswith("(shortened)")
    assert int(card["bytes"]) <= 2_000_000


def test_make_lists_the_known_names():
    with pytest.raises(NotebookError, match=r"(?s)no weights are named 'unet'.*cifar_cnn"):
        make("unet")


def test_list_reads_all_of_them(capsys):
    list_()
    printed = capsys.readouterr().out
    assert all(f"{name}: sound" in printed for name in NAMES)
    assert weights.card(NAMES[0])["sha256"] in printed


@pytest.mark.parametrize(
    "failure",
    [OSError("<urlopen error: no route to host>"), RuntimeError('invalid hash value (expected "1", got "2")')],
)
def test_without_a_network_weights_are_random_and_that_is_said(monkeypatch, capsys, tmp_path, failure):
    def unreachable(name, **options):
        if options["weights"]:
            raise failure
        return options

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torchvision.models, "get_model", unreachable)
    monkeypatch.delenv("COURSE_OFFLINE", raising=False)
    assert weights.pretrained("fcn_resnet50") == {"weights": None, "weights_backbone": None}
    said = "fcn_resnet50: random weights, and so random answers, instead of the published ones: "
    assert capsys.readouterr().out == f"{said}{failure}\n"
    weights.pretrained("fcn_resnet50", download=False)
    assert capsys.readouterr().out == f"{said}they are not here, and none are downloaded\n"
    monkeypatch.setenv("COURSE_OFFLINE", "1")
    assert weights.pretrained("vgg16") == {"weights": None}
    assert "none are downloaded" in capsys.readouterr().out


def test_published_weights_of_torchvision_are_used_where_they_are(monkeypatch, capsys):
    monkeypatch.delenv("COURSE_OFFLINE", raising=False)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, **options: options)
    assert weights.pretrained("vgg16") == {"weights": "DEFAULT"}
    assert capsys.readouterr().out == ""
