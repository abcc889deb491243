"""Joint augmentation and batches."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_lib import data
from course_lib.data.batches import Batches, ClassificationBatches
from course_lib.data.readers import ClassificationDataset
from course_lib.errors import InputError


class Coded:
    """Pictures whose red channel holds the mask, so that any misalignment shows."""

    def __init__(self, sizes, wrap=tv_tensors.Mask):
        self.sizes, self.wrap = sizes, wrap

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        mask = torch.arange(self.sizes[index] ** 2).reshape(self.sizes[index], -1) % 250
        return tv_tensors.Image(mask.to(torch.uint8).expand(3, -1, -1)), self.wrap(mask)


def passes(batches, count=1):
    return [torch.cat([torch.cat([x.flatten(), y.flatten().float()]) for x, y in batches]) for _ in range(count)]


@pytest.mark.parametrize("augment", [True, False])
def test_image_and_mask_stay_aligned_and_padding_is_void(augment):
    batches = Batches(Coded([40, 20, 33, 64, 32]), 2, crop=32, augment=augment)
    assert len(batches) == 3
    sizes = []
    for images, masks in batches:
        assert images.dtype == torch.float32
        assert masks.dtype == torch.int64
        assert images.shape[1:] == (3, 32, 32)
        assert masks.shape[1:] == (32, 32)
        inside = masks != 255
        assert torch.equal((images[:, 0] * 255).round().long()[inside], masks[inside])
        assert (images[:, 0][~inside] == 0).all()
        sizes += [(~mask).sum().item() for mask in inside]
    assert sorted(sizes)[-1] == 32**2 - 20**2, "only the picture of 20 pixels is padded"
    assert sorted(sizes)[-2] == 0


class Numbered:
    """One picture whose objects have the brightness 10 times their number; the last of them is a crowd."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        numbers = torch.zeros(60, 60, dtype=torch.int64)
        for number, (top, left) in enumerate([(2, 2), (20, 5), (3, 40), (45, 45), (30, 30)], start=1):
            numbers[top : top + 9, left : left + 12] = number
        masks = tv_tensors.Mask((numbers == torch.arange(1, 6)[:, None, None]).to(torch.uint8))
        crowd = torch.tensor([0, 0, 0, 0, 1])
        target = {"masks": masks, "labels": torch.tensor([1, 2, 1, 2, 1]), "iscrowd": crowd}
        return tv_tensors.Image((10 * numbers).to(torch.uint8).expand(3, -1, -1)), target


def test_instances_move_with_their_picture_and_crowds_stay_out():
    batches = Batches(Numbered(), 1, crop=40, transform=v2.RandomVerticalFlip())
    seen = set()
    for _ in range(20):
        [(images, [target])] = batches
        assert {name: value.dtype for name, value in target.items()} == {
            "boxes": torch.float32,
            "labels": torch.int64,
            "masks": torch.uint8,
        }
        for box, label, mask in zip(*(target[name] for name in ("boxes", "labels", "masks")), strict=True):
            [brightness] = (images[0, 0][mask > 0] * 255).round().unique().tolist()
            number = int(brightness / 10)
            assert label == 2 - number % 2
            assert number < 5, "the crowd is no object"
            assert mask.sum() >= 16
            left, top, right, bottom = box.int().tolist()
            assert mask[top:bottom, left:right].all(), "the objects are rectangles: their box is full"
            assert mask.sum() == (right - left) * (bottom - top)
            seen.add(number)
    assert seen == {1, 2, 3, 4}


def test_padding_holds_no_objects():
    images, [target] = next(iter(Batches(Numbered(), 1, crop=80, augment=False)))
    assert images.shape == (1, 3, 80, 80)
    assert len(target["boxes"]) == 4


def test_same_seed_same_batches():
    dataset = data.load("cells", count=5)
    first, second = passes(Batches(dataset, 2, crop=64, seed=1), 2)
    again, again_second = passes(Batches(dataset, 2, crop=64, seed=1), 2)
    assert torch.equal(first, again)
    assert torch.equal(second, again_second)
    assert not torch.equal(first, second), "each pass draws other crops"
    assert not torch.equal(first, passes(Batches(dataset, 2, crop=64, seed=2))[0])


def test_a_pass_can_be_repeated():
    batches = Batches(data.load("cells", count=5), 2, crop=64)
    _, second = passes(batches, 2)
    batches.epoch = 1
    assert torch.equal(passes(batches)[0], second)
    assert batches.epoch == 2


def test_without_augmentation_every_pass_is_the_same_and_in_order():
    dataset = data.load("cells", count=3)
    first, second = passes(Batches(dataset, 2, crop=128, augment=False), 2)
    assert torch.equal(first, second)
    images, masks = next(iter(Batches(dataset, 3, crop=128, augment=False)))
    for index, (image, mask) in enumerate(dataset):
        assert torch.equal(masks[index], mask.as_subclass(torch.Tensor))
        assert torch.allclose(images[index] * 255, image.as_subclass(torch.Tensor).float())


def test_the_global_generator_is_left_alone():
    batches = Batches(data.load("cells", count=3), 2, crop=64)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(batches)
    assert torch.equal(torch.rand(3), expected)


def test_plain_masks_are_refused():
    with pytest.raises(InputError, match=r"must be tv_tensors\.Mask"):
        Batches(Coded([32], wrap=torch.as_tensor), 1)


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="the data set is empty"):
        Batches(Coded([]), 1)


@pytest.mark.cuda
def test_batches_are_made_on_the_device():
    images, masks = next(iter(Batches(data.load("cells", count=2), 2, crop=64, device="cuda")))
    assert images.device.type == masks.device.type == "cuda"


def coded_pictures(count=20, side=16):
    """Pictures of one grey level each, their label, but for a bright left edge."""
    labels = torch.arange(count)
    images = labels.to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, side, side)
    images[:, :, :, :4] = 255
    return ClassificationDataset("coded", "synthetic", "train", [str(i) for i in range(count)], images, labels)


@pytest.mark.parametrize("augment", [True, False])
def test_every_pass_shows_each_picture_once_with_its_label(augment):
    batches = ClassificationBatches(coded_pictures(), 6, augment=augment, sides=[8])
    assert len(batches) == 4
    for side in (8, 16, 16):
        images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
        assert images.dtype == torch.float32
        assert images.shape == (20, 3, side, side)
        assert sorted(labels.tolist()) == list(range(20))
        assert torch.equal((images[:, 0, :, side // 2] * 255).round().long(), labels[:, None].expand(-1, side))


def test_pictures_are_mirrored_at_every_other_pass():
    batches = ClassificationBatches(coded_pictures(64), 64)
    seen = []
    for _ in range(4):
        [(images, labels)] = batches
        seen.append((images[:, 0, 0, 0] > images[:, 0, 0, -1])[labels.argsort()])
    assert torch.equal(seen[0], ~seen[1])
    assert torch.equal(seen[0], seen[2])
    assert 10 < seen[0].sum() < 54, "about half of them begin mirrored"


def test_classification_batches_repeat_by_seed_and_by_pass():
    def flat(batches):
        return torch.cat([images.flatten() for images, _ in batches])

    first, again, other = (ClassificationBatches(coded_pictures(), 6, seed=seed) for seed in (1, 1, 2))
    one, two = flat(first), flat(first)
    assert torch.equal(one, flat(again))
    assert not torch.equal(one, two)
    assert not torch.equal(one, flat(other))
    again.epoch = 1
    assert torch.equal(two, flat(again))


def test_an_empty_set_is_named():
    with pytest.raises(InputError, match="empty"):
        ClassificationBatches(coded_pictures(0), 6)


@pytest.mark.cuda
def test_classification_batches_are_made_on_the_device():
    images, labels = next(iter(ClassificationBatches(coded_pictures(), 6, sides=[8], device="cuda")))
    assert images.device.type == labels.device.type == "cuda"


def test_a_transform_changes_colours_and_leaves_masks_alone():
    plain, inverted = (
        Batches(Coded([40]), 1, crop=32, augment=False, transform=transform)
        for transform in (None, v2.RandomInvert(p=1))
    )
    [(images, masks)], [(others, same)] = plain, inverted
    assert torch.equal(masks, same)
    assert torch.allclose(images, 1 - others, atol=1e-6)
