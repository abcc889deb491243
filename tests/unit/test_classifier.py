"""The classifier: shapes, whitening, independence of pictures, and that it learns."""

import pytest
import torch
from torch.nn import functional as F

from course_lib import data
from course_lib.data.batches import ClassificationBatches
from course_lib.errors import InputError
from course_lib.models.classifier import Classifier
from course_lib.training import fit


@pytest.mark.parametrize("side", [16, 32, 96])
@pytest.mark.parametrize("patch", [2, 4])
def test_maps_have_the_promised_strides(side, patch):
    model = Classifier(7, channels=(8, 16, 24), filters=6, patch=patch)
    assert (model.strides, model.widths) == ((2, 4, 8, 16) if patch == 4 else (1, 2, 4, 8), (12, 8, 16, 24))
    lost = int(patch == 2)  # windows of 2x2 need no padding, and one fewer fits
    images = torch.rand(2, 3, side + lost, 2 * side + lost)
    assert [tuple(m.shape) for m in model.features(images)] == [
        (2, channels, side // stride, 2 * side // stride)
        for channels, stride in zip(model.widths, model.strides, strict=True)
    ]
    assert model(images).shape == (2, 7)


def test_the_last_stage_has_a_residual_where_its_maps_are_large_enough():
    for patch, convolutions in ((4, 1 + 5), (2, 1 + 6)):
        layers = [each for each in Classifier(patch=patch, filters=6).modules() if isinstance(each, torch.nn.Conv2d)]
        assert len(layers) == convolutions


def test_whitening_decorrelates_patches():
    pictures = data.load("shapes", count=200).images
    model = Classifier()
    model.whiten(pictures)
    half = model.stem.weight[:24]
    assert torch.equal(half, -model.stem.weight[24:])
    patches = F.unfold(pictures / 255 - model.mean, 4, stride=4).transpose(1, 2).flatten(0, 1)
    answers = patches @ half.flatten(1).T
    covariance = answers.T @ answers / len(answers)
    strong = covariance.diagonal() > 0.9  # the guard against division by zero keeps the weakest below 1
    assert strong.sum() >= 12
    assert (covariance - torch.diag(covariance.diagonal())).abs().max() < 0.05
    assert not model.stem.weight.requires_grad


def test_bytes_and_fractions_whiten_alike():
    pictures = data.load("shapes", count=60).images
    first, second = Classifier(), Classifier()
    first.whiten(pictures)
    second.whiten(pictures / 255)
    assert torch.allclose(first.stem.weight, second.stem.weight, atol=1e-4)
    assert torch.allclose(first.mean, second.mean)


def test_too_few_pictures_are_named():
    with pytest.raises(InputError, match="too few to whiten"):
        Classifier().whiten(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_an_answer_depends_on_its_own_picture_alone():
    model = Classifier().eval()
    batch = torch.rand(4, 3, 32, 32, requires_grad=True)
    model(batch)[1].sum().backward()
    touched = batch.grad.flatten(1).abs().sum(1) > 0
    assert touched.tolist() == [False, True, False, False]


def test_it_learns_a_few_pictures_by_heart():
    torch.manual_seed(0)
    few = data.load("shapes", count=40)
    model = Classifier(channels=(16, 32, 64))
    model.whiten(data.load("shapes", count=200).images)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.2, momentum=0.9)
    batches = ClassificationBatches(few, 20, augment=False)
    fit(model, batches, F.cross_entropy, epochs=20, optimiser=optimiser)
    hits = model(few.images / 255).argmax(1) == few.labels
    assert hits.float().mean() > 0.9
