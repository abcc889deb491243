"""Losses: values worked by hand, the same as PyTorch's, torchvision's and torchmetrics', finite and blind to void."""

import math

import pytest
import torch
import torchmetrics.functional.segmentation as library
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from course_lib import losses
from course_lib.errors import InputError

ALL = (losses.cross_entropy, losses.focal, losses.dice, losses.l1, losses.l2)
SEEDS = st.integers(0, 10_000)


def sample(seed, classes=4, void=0.2):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 5, 6, generator=generator)
    target = torch.randint(classes, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < void] = 255
    return logits, target


def worked(loss):
    """Of two pixels, certain to one third and to one half, and a void one."""
    probabilities = torch.tensor([[1 / 3, 1 / 2, 0.9], [2 / 3, 1 / 2, 0.1]])
    return float(loss(probabilities.log()[None, :, None], torch.tensor([[[0, 1, 255]]])))


def test_values_worked_by_hand():
    assert worked(losses.cross_entropy) == pytest.approx((math.log(3) + math.log(2)) / 2)
    assert worked(losses.focal) == pytest.approx((4 / 9 * math.log(3) + 1 / 4 * math.log(2)) / 2)
    # class 0: 2 * 1/3 / (1/3 + 1/2 + 1), class 1: 2 * 1/2 / (2/3 + 1/2 + 1)
    assert worked(losses.dice) == pytest.approx(1 - (4 / 11 + 6 / 13) / 2)
    assert worked(losses.l1) == pytest.approx((2 / 3 + 2 / 3 + 1 / 2 + 1 / 2) / 4)
    assert worked(losses.l2) == pytest.approx((4 / 9 + 4 / 9 + 1 / 4 + 1 / 4) / 4)


@settings(deadline=None)
@given(SEEDS)
def test_cross_entropy_is_pytorchs(seed):
    logits, target = sample(seed)
    weight = torch.tensor([0.3, 1.0, 2.0, 0.7])
    for options in ({}, {"weight": weight}):
        expected = F.cross_entropy(logits, target, ignore_index=255, **options)
        assert torch.allclose(losses.cross_entropy(logits, target, **options), expected, atol=1e-5)


@settings(deadline=None)
@given(SEEDS, st.sampled_from([0.0, 1.0, 2.0, 3.5]))
def test_focal_of_two_classes_is_torchvisions(seed, gamma):
    logits, target = sample(seed, classes=2, void=0)
    expected = sigmoid_focal_loss(logits[:, 1] - logits[:, 0], target.float(), alpha=-1, gamma=gamma, reduction="mean")
    assert torch.allclose(losses.focal(logits, target, gamma), expected, atol=1e-5)


@settings(deadline=None)
@given(SEEDS)
def test_dice_of_certain_answers_is_torchmetrics(seed):
    logits, target = sample(seed, void=0)
    target[:, 0, :4] = torch.arange(4)  # every class occurs
    certain = F.one_hot(logits.argmax(1), 4).movedim(-1, 1)
    expected = library.dice_score(
        logits.argmax(1)[None].flatten(1),
        target[None].flatten(1),
        num_classes=4,
        input_format="index",
        average="macro",
    )
    assert losses.dice(100.0 * certain, target) == pytest.approx(1 - float(expected.mean()), abs=1e-5)


@settings(deadline=None)
@given(SEEDS)
def test_l1_and_l2_are_pytorchs(seed):
    logits, target = sample(seed, void=0)
    truth = F.one_hot(target, 4).movedim(-1, 1).float()
    assert torch.allclose(losses.l1(logits, target), F.l1_loss(logits.softmax(1), truth), atol=1e-6)
    assert torch.allclose(losses.l2(logits, target), F.mse_loss(logits.softmax(1), truth), atol=1e-6)


@pytest.mark.parametrize("loss", ALL)
@settings(deadline=None)
@given(seed=SEEDS)
def test_void_pixels_count_for_nothing(loss, seed):
    logits, target = sample(seed)
    changed = torch.where((target == 255)[:, None], torch.randn_like(logits), logits)
    assert torch.allclose(loss(logits, target), loss(changed, target), atol=1e-6)
    logits.requires_grad_()
    loss(logits, target).backward()
    assert not logits.grad.movedim(1, -1)[target == 255].any()


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8])
@pytest.mark.parametrize("void", [0.2, 1.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_are_finite(loss, scale, void, dtype):
    logits, target = sample(0, void=void)
    logits = (logits * scale).clip(-6e4, 6e4).to(dtype).requires_grad_()
    value = loss(logits, target)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert void < 1 or not (value or logits.grad.any()), "nothing to learn where every pixel is void"


def test_gradients_of_focal_are_finite_for_every_power():
    logits = torch.tensor([100.0, -100.0]).view(1, 2, 1, 1).requires_grad_()
    losses.focal(logits, torch.zeros(1, 1, 1, dtype=torch.long), gamma=0.5).backward()
    assert logits.grad.isfinite().all()


def test_a_class_that_no_picture_shows_is_left_out_of_dice():
    logits, target = sample(1)
    more = torch.cat([logits, torch.full((2, 1, 5, 6), -1e4)], 1)
    assert torch.allclose(losses.dice(more, target), losses.dice(logits, target), atol=1e-5)


@pytest.mark.parametrize("loss", ALL)
def test_shapes_that_do_not_fit_are_named(loss):
    with pytest.raises(InputError, match=r"\(2, 4, 5, 6\) and target \(2, 5, 5\)[\s\S]*\[B, C, H, W\]"):
        loss(torch.zeros(2, 4, 5, 6), torch.zeros(2, 5, 5, dtype=torch.long))


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([[[0, 4]]]), "ids from 0 to 4, outside 0..3"),
        (torch.tensor([[[-100, 1]]]), "ids from -100 to 1"),
        (torch.tensor([[[0, 1]]], dtype=torch.uint8), "torch.uint8 do not fit"),
    ],
)
def test_wrong_ids_are_named(loss, target, message):
    with pytest.raises(InputError, match=message):
        loss(torch.zeros(1, 4, 1, 2), target)


@pytest.mark.parametrize("loss", ALL)
def test_many_pixels_are_counted_in_half_precision(loss):
    logits, target = torch.ones(1, 2, 300, 300), torch.zeros(1, 300, 300, dtype=torch.long)
    assert torch.allclose(loss(logits.half(), target).float(), loss(logits, target), atol=1e-3)
