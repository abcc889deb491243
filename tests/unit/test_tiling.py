"""Tiled prediction: the same as the whole picture's, with little memory."""

import numpy as np
import pytest
import torch

from course_lib.errors import InputError
from course_lib.models.tiling import predict_tiles
from course_lib.models.unet import UNet


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (3, height, width), np.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    unet = UNet(4, 3, (4, 6)).eval()
    torch.nn.init.zeros_(unet.head.bias)  # or untrained, it says the same everywhere
    return unet


def test_a_margin_of_the_receptive_field_gives_the_whole_pictures_answer(model):
    image = picture(150, 170)
    with torch.inference_mode():
        whole = model(torch.from_numpy(image)[None] / 255).argmax(1)[0].numpy()
    assert len(np.unique(whole)) > 1
    differing = {margin: (predict_tiles(model, image, tile=48, margin=margin) != whole).mean() for margin in (32, 0)}
    assert differing[32] < 1e-3, "rounding apart, the same"
    assert differing[0] > 1e-2, "without, the seams show"


def test_a_picture_on_disk_is_read_and_written_tile_by_tile(model, tmp_path):
    image = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.uint8, (3, 100, 130))
    image[:] = picture(100, 130)
    out = np.lib.format.open_memmap(tmp_path / "ids.npy", "w+", np.uint8, (100, 130))
    sizes = []
    model.register_forward_pre_hook(lambda module, args: sizes.append(max(args[0].shape[2:])))
    assert predict_tiles(model, image, tile=32, margin=8, out=out) is out
    assert max(sizes) == 48, "no more than a tile and its margins at once"
    assert np.array_equal(np.load(tmp_path / "ids.npy"), predict_tiles(model, np.asarray(image), tile=32, margin=8))


def test_bad_sizes_are_named(model):
    with pytest.raises(InputError, match=r"uint8 \[8, 8, 3\]|float32"):
        predict_tiles(model, picture(8, 8) / np.float32(255))
    with pytest.raises(InputError, match="training mode"):
        predict_tiles(UNet(2), picture(8, 8))
    with pytest.raises(InputError, match="tile = 0"):
        predict_tiles(model, picture(8, 8), tile=0)
    with pytest.raises(InputError, match=r"out is \(8, 9\), but the picture is \(8, 8\)"):
        predict_tiles(model, picture(8, 8), out=np.empty((8, 9), np.uint8))
