"""Batches of equal size for training: joint augmentation, on the device, without worker processes.

The whole set is decoded once and kept on the device as uint8; every pass draws fresh crops. That runs alike on Linux,
macOS, Windows and Colab, and is faster than worker processes while the set fits in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_lib.data.readers import ClassificationDataset, detection_target
from course_lib.errors import InputError
from course_lib.metrics import IGNORE, to_label_map


class _Passes:
    """A data set cut into batches, again at every pass; the pass's number and the seed decide all that is drawn."""

    def __init__(self, count: int, batch_size: int, augment: bool, seed: int) -> None:
        if not count:
            raise InputError("the data set is empty", "choose another split, or a larger count")
        self.count, self.batch_size, self.augment, self.seed = count, batch_size, augment, seed
        self.epoch = 0  # of the next pass, whose random draws it decides; set it to repeat a pass, or to go on from one

    def __len__(self) -> int:
        return -(-self.count // self.batch_size)

    def _pass(self, shuffle: bool) -> tuple[torch.Generator, tuple[Tensor, ...]]:
        """The next pass: its generator, on the CPU, and the indices of each batch."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch * shuffle)
        self.epoch += 1
        order = torch.randperm(self.count, generator=generator) if shuffle else torch.arange(self.count)
        return generator, order.split(self.batch_size)


class Batches(_Passes):
    """Iterate over `(images, masks)`: float32 `[B, 3, H, W]` in 0..1 and int64 `[B, H, W]`, void = 255.

    Of a data set of instances, over `(images, targets)`: a list of B detection dicts, as `readers.detection_target`
    makes them of what a crop shows, without objects of fewer than 16 pixels, and without crowds. Pictures smaller than
    the crop are padded with black, their masks with void, so that padding neither rewards nor punishes a model.

    `dataset`: samples `(tv_tensors.Image, tv_tensors.Mask)`, or `(tv_tensors.Image, detection dict)` whose masks do not
    overlap. InputError: it is empty, or masks are plain tensors, which v2 transforms would not flip. `batch_size`:
    samples a batch; the last batch of a pass may be smaller. `crop`: side of a square crop, or its height and width, in
    pixels; it lies at a random place. `augment`: random order, other crops at every pass, half of them mirrored left to
    right, image and mask alike; without, the data set's order, and the same crops at every pass. `device`: where the
    data lie and the batches are made. `seed`: the first pass's; each further pass differs, the same seed repeats all.
    `transform`: what else is to be done to each uint8 crop and its mask, such as `v2.ColorJitter(0.2, 0.2)`, or
    `v2.RandomVerticalFlip()` where up and down are alike: a transform of torchvision's v2. One that moves in pixels
    from outside, such as a rotation, needs `fill={Image: 0, Mask: 255, "others": 0}`.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        crop: int | tuple[int, int] = 128,
        augment: bool = True,
        transform: Callable[..., Any] | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(len(dataset), batch_size, augment, seed)  # type: ignore[arg-type]
        self._samples, self._labels, self._device = list[Any](), list[Tensor](), torch.device(device)
        for image, mask in (dataset[i] for i in range(self.count)):
            if isinstance(mask, dict):  # one label map needs far less memory than many masks
                keep = mask.get("iscrowd", torch.zeros_like(mask["labels"])) == 0
                self._labels.append(mask["labels"][keep].to(device))
                mask = tv_tensors.Mask(to_label_map(mask["masks"][keep]))
            if not isinstance(mask, tv_tensors.Mask):
                raise InputError("masks must be tv_tensors.Mask", "wrap them: a plain tensor is not flipped")
            self._samples.append((image.to(device), mask.to(device, torch.int32 if self._labels else torch.uint8)))
        fill = {tv_tensors.Image: 0, tv_tensors.Mask: 0 if self._labels else IGNORE, "others": 0}
        flip, more = [v2.RandomHorizontalFlip()] if augment else [], [transform] if transform else []
        self._transform = v2.Compose([v2.RandomCrop(crop, pad_if_needed=True, fill=fill), *flip, *more])

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        generator, parts = self._pass(shuffle=self.augment)
        for part in parts:
            gpus = [self._device] if self._device.type == "cuda" else []
            with torch.random.fork_rng(gpus):  # v2 draws from the global generators; the caller's stay untouched
                number = int(torch.randint(2**31, (1,), generator=generator))
                for each in (torch.default_generator, *(torch.cuda.default_generators[gpu.index or 0] for gpu in gpus)):
                    each.manual_seed(number)
                chosen = [self._transform(*self._samples[i]) for i in part.tolist()]
            images, masks = (torch.stack(layer).as_subclass(Tensor) for layer in zip(*chosen, strict=True))
            targets = [self._target(*each) for each in zip(masks, part.tolist(), strict=True)] if self._labels else None
            yield v2.functional.to_dtype(images, torch.float32, scale=True), targets or masks.long()

    def _target(self, numbers: Tensor, index: int) -> dict[str, Tensor]:
        """The objects that a crop of a label map shows."""
        seen = numbers[numbers > 0].unique()
        return detection_target(numbers == seen[:, None, None], self._labels[index][seen.long() - 1], min_area=16)


class ClassificationBatches(_Passes):
    """Iterate over `(images, labels)`: float32 `[B, 3, S, S]` in 0..1 and int64 `[B]`, in a new order at every pass.

    With `augment`, all pictures of a batch are shifted alike, by up to `SHIFT` pixels, the edge mirrored: one slice
    costs less than a crop for each. Half of them are mirrored at the even passes, the others at the odd ones: two
    passes show each both ways (alternating flip; Jordan: 94% on CIFAR-10 in 3.29 seconds on a single GPU, 2024).

    `dataset`: pictures of one size. `sides`: S in each pass, such as `[24, 24, 32]`: small pictures cost less and are
    enough to begin with (progressive resizing); further passes, and all by default, keep the pictures' own side. The
    other arguments and InputError are as for `Batches`.
    """

    SHIFT = 2

    def __init__(
        self,
        dataset: ClassificationDataset,
        batch_size: int,
        *,
        augment: bool = True,
        sides: Sequence[int] = (),
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__(len(dataset), batch_size, augment, seed)
        images = dataset.images.to(device)
        if augment:
            mirrored = torch.rand(self.count, generator=torch.Generator().manual_seed(seed)).to(device) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
            images = F.pad(images, (self.SHIFT,) * 4, mode="reflect")
        self._images = images.permute(0, 2, 3, 1).contiguous()  # channels last: index_select keeps them so
        self._labels = dataset.labels.to(device)
        self._sides, self._side = tuple(sides), dataset.images.shape[-1]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        side = self._sides[self.epoch] if self.epoch < len(self._sides) else self._side
        pictures = self._images.flip(2) if self.augment and self.epoch % 2 else self._images
        generator, parts = self._pass(shuffle=True)
        for part in parts:
            index = part.to(self._labels.device)
            images = pictures.index_select(0, index).permute(0, 3, 1, 2)  # ten times as fast as [index]
            if self.augment:
                top, left = torch.randint(2 * self.SHIFT + 1, (2,), generator=generator).tolist()
                images = images[:, :, top : top + self._side, left : left + self._side]
            images = images / 255
            if side != self._side:
                images = F.interpolate(images, size=(side, side), mode="bilinear")
            yield images, self._labels[index]
