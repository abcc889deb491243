"""Prediction of pictures that are larger than memory; lesson 05 explains the margin."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from course_lib.errors import InputError


@torch.inference_mode()
def predict_tiles(
    model: nn.Module,
    image: NDArray[np.uint8],
    *,
    tile: int = 256,
    margin: int = 64,
    device: torch.device | str = "cpu",
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Class ids `[H, W]` of a picture, one tile after the other.

    Each tile is predicted with `margin` pixels of its surroundings, of which the answers are thrown away: at its edge a
    network sees padding instead of the picture. With a margin of the receptive field's radius, and both numbers
    multiples of the network's coarsest stride, the answers are those of the whole picture.

    Args:
        model: pictures `[B, C, h, w]` in 0..1 -> logits `[B, classes, h, w]`; in evaluation mode, on `device`.
        image: uint8 `[C, H, W]`; a `numpy.memmap` is read tile by tile.
        tile: side of a tile, in pixels.
        margin: pixels of context on each side.
        device: where the model is.
        out: where to write the answers, uint8 `[H, W]`, such as a `numpy.memmap`; a new array by default.

    Raises:
        InputError: the model is in training mode; `image` has another form; `tile` or `margin` is no size; `out` has
            another shape than the picture.
    """
    if model.training:
        raise InputError("the model is in training mode", "call model.eval(): else each tile is normalised by itself")
    if image.ndim != 3 or image.dtype != np.uint8:
        given = f"{image.dtype} {list(image.shape)}"
        raise InputError(f"the picture is {given}", "give uint8 [C, H, W], such as np.moveaxis(picture, 2, 0)")
    height, width = image.shape[1:]
    if tile < 1 or margin < 0:
        raise InputError(f"tile = {tile} and margin = {margin} are no sizes", "give a tile >= 1 and a margin >= 0")
    answers: Any = np.empty((height, width), np.uint8) if out is None else out
    if answers.shape != (height, width):
        raise InputError(f"out is {answers.shape}, but the picture is {(height, width)}", "make it as large")
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = min(top, margin), min(left, margin)
            rows = slice(top - above, top + tile + margin)
            columns = slice(left - before, left + tile + margin)
            piece = torch.from_numpy(np.array(image[:, rows, columns])).to(device)
            ids = model(piece[None] / 255).argmax(1)[0, above : above + tile, before : before + tile]
            answers[top : top + tile, left : left + tile] = ids.to(torch.uint8).cpu().numpy()
    return answers
