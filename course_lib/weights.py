"""Small trained weights that come with the course, so that a lesson can start where an earlier one ended.

`course weights make NAME` trains them anew; a card beside each says on what, how, how well and when.
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from course_lib import paths
from course_lib.errors import InputError
from course_lib.models.classifier import Classifier
from course_lib.models.fcn import FCN
from course_lib.models.mask_rcnn import mask_rcnn
from course_lib.models.unet import UNet
from course_lib.training import TrainingError, load_weights, save_weights

MODELS: dict[str, tuple[str, str, str, Callable[[], nn.Module]]] = {  # lesson, profile, data, and the network
    "cifar_cnn": ("03", "lesson", "real", Classifier),
    "fcn_streets": ("04", "lesson", "synthetic", lambda: FCN(Classifier(), 11, 4)),  # CamVid is not for all uses
    "unet_nuclei": ("05", "lesson", "real", UNet),
    "mask_rcnn_nuclei": ("07", "full", "real", mask_rcnn),
    "fcn_nuclei": ("08", "full", "real", lambda: FCN(Classifier(), 2, 4)),
    "unet_gan_nuclei": ("08", "full", "real", UNet),
}


def folder() -> Path:
    """Where the published weights lie: `data/weights` in a checkout, else inside the installed package."""
    return (paths.checkout() or Path(__file__).parent) / "data" / "weights"


def save(name: str, model: nn.Module, **card: object) -> Path:
    """Keep what a lesson has trained in `build/weights`, with a card such as `accuracy=0.88`; returns the file."""
    file = _file(name, own=True)
    save_weights(model, file, **card)
    return file


def load(name: str, *, own: bool = False) -> nn.Module:
    """The trained network, on the CPU, in evaluation mode; `own`: as its lesson last saved it here, not as published.

    Raises InputError: unknown name; TrainingError: the file is missing or damaged, or fits another network.
    """
    digest = checksum(file := _file(name, own))
    if not own and digest != card(name)["sha256"]:
        raise TrainingError(f"{file} was changed: its SHA-256 is {digest}", "take it from the repository again")
    model = MODELS[name][3]()
    load_weights(model, file)
    return model.eval().to(memory_format=torch.channels_last)


def pretrained(name: str, download: bool = True) -> Any:
    """A network of torchvision, such as `"fcn_resnet50"`, with its published weights; says so where they are random."""
    file = torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    try:
        if not (Path(torch.hub.get_dir(), "checkpoints", file).is_file() or (download and not paths.offline())):
            raise OSError("they are not here, and none are downloaded")
        return torchvision.models.get_model(name, weights="DEFAULT")
    except (OSError, RuntimeError) as error:  # no network; or what came is not what was published
        print(f"{name}: random weights, and so random answers, instead of the published ones: {error}")
    options = inspect.signature(torchvision.models.get_model_builder(name)).parameters  # `weights_backbone` may be one
    return torchvision.models.get_model(name, **{word: None for word in options if word.startswith("weights")})


def card(name: str) -> dict[str, str]:
    """What `NAME.json` says of the published weights: data, recipe, scores, date, checksum."""
    return json.loads(_file(name).with_suffix(".json").read_text(encoding="utf-8"))


def checksum(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal; TrainingError where there is none."""
    if not file.is_file():
        raise TrainingError(f"there are no weights {file}", "run the lesson that trains them, or update the repository")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _file(name: str, own: bool = False) -> Path:
    if name not in MODELS:
        raise InputError(f"no weights are named {name!r}", f"known: {', '.join(MODELS)}")
    return (paths.build_dir() / "weights" if own else folder()) / f"{name}.safetensors"
