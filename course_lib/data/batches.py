"""Batches of equal size for training: joint augmentation, on the device, without worker processes.

The whole set is decoded once and kept on the device as uint8; every pass draws fresh crops. That runs alike on Linux,
macOS, Windows and Colab, and is faster than worker processes while the set fits in memory.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_lib.errors import InputError
from course_lib.metrics import IGNORE


class Batches:
    """Iterate over `(images, masks)`: float32 `[B, 3, S, S]` in 0..1 and int64 `[B, S, S]`, void = 255.

    Each sample is cropped at a random place; with `augment` it is also flipped at random, image and mask alike.
    Without, the order is the data set's and every pass repeats the same crops. Pictures smaller than the crop are
    padded with black, their masks with void, so that padding neither rewards nor punishes a model.

    Args:
        dataset: semantic samples `(tv_tensors.Image, tv_tensors.Mask)`.
        batch_size: samples a batch; the last batch of a pass may be smaller.
        crop: side S of the square crop, in pixels.
        augment: random order and flips, other crops at every pass.
        device: where the data lie and the batches are made.
        seed: the first pass's seed; each further pass differs, and the same seed repeats all of them.

    Raises:
        InputError: a mask is a plain tensor (v2 transforms would pass it through unflipped), or the set is empty.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        crop: int = 128,
        augment: bool = True,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        samples = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]
        if not samples:
            raise InputError("the data set is empty", "choose another split, or a larger count")
        if not all(isinstance(mask, tv_tensors.Mask) for _, mask in samples):
            raise InputError("masks must be tv_tensors.Mask", "wrap them: a plain tensor is not flipped with its image")
        self._samples = [(image.to(device), mask.to(device, torch.uint8)) for image, mask in samples]
        self.batch_size, self.augment, self.seed = batch_size, augment, seed
        self.epoch = 0
        """Number of the next pass; it decides the random draws. Set it to repeat a pass, or to go on from one."""
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORE, "others": 0}
        flips = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()] if augment else []
        self._transform = v2.Compose([v2.RandomCrop(crop, pad_if_needed=True, fill=fill), *flips])

    def __len__(self) -> int:
        """Batches a pass."""
        return -(-len(self._samples) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self._samples)
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch * self.augment)
        self.epoch += 1
        order = torch.randperm(count, generator=generator).tolist() if self.augment else list(range(count))
        for start in range(0, count, self.batch_size):
            with torch.random.fork_rng(devices=[]):  # v2 draws from the global generator; the caller's stays untouched
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
                chosen = [self._transform(*self._samples[i]) for i in order[start : start + self.batch_size]]
            images, masks = zip(*chosen, strict=True)
            yield (
                torch.stack(images).as_subclass(Tensor).float() / 255,
                torch.stack(masks).as_subclass(Tensor).long(),
            )
