"""The fully convolutional network: shapes, skips, and where its scores lie."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_lib.errors import InputError
from course_lib.models.classifier import Classifier
from course_lib.models.fcn import FCN, pad_to_multiple

quick = settings(max_examples=15, deadline=None)


def small():
    return Classifier(channels=(8, 12, 16), filters=4)


@quick
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([2, 4, 8, 16]))
def test_any_size_gives_logits_for_every_pixel(height, width, stride):
    model = FCN(small(), 5, stride).eval()
    assert model(torch.rand(2, 3, height, width)).shape == (2, 5, height, width)


def test_at_first_every_class_is_as_likely():
    assert not FCN(small(), 5)(torch.rand(1, 3, 32, 32)).any()


def test_each_skip_adds_a_score_layer_and_its_map_matters():
    for stride, layers in ((16, 1), (8, 2), (4, 3), (2, 4)):
        model = FCN(small(), 5, stride)
        assert len(model.scores) == layers
        for score in model.scores:
            nn.init.normal_(score.weight)
        model(torch.rand(1, 3, 32, 32)).square().sum().backward()
        assert all(score.weight.grad.any() for score in model.scores)


class Fixed(nn.Module):
    """Maps of one channel: the picture's red channel, averaged over blocks of 2 and 4 pixels."""

    strides, widths = (2, 4), (1, 1)

    def features(self, images):
        return [nn.functional.avg_pool2d(images[:, :1], stride) for stride in self.strides]


def test_scores_are_doubled_added_and_lie_where_their_pixels_are():
    model = FCN(Fixed(), 1, 2)
    for score, factor in zip(model.scores, (10.0, 1.0), strict=True):
        nn.init.constant_(score.weight, factor)
    ramp = torch.arange(16.0).expand(1, 3, 8, 16)
    answer = model(ramp)
    assert torch.allclose(answer[0, 0, :, 4:12], 11 * ramp[0, 0, :, 4:12], atol=1e-4), "no shift by half a step"


def test_a_backbone_that_loses_a_row_is_named():
    model = FCN(Classifier(channels=(8, 12, 16), filters=4, patch=2), 5, 4)
    with pytest.raises(InputError, match="stride 1 has 31 rows for a picture of 32"):
        model(torch.rand(1, 3, 32, 32))


def test_an_unknown_stride_lists_the_known():
    with pytest.raises(InputError, match=r"stride 3[\s\S]*2, 4, 8, 16"):
        FCN(small(), 5, 3)


@quick
@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 8]))
def test_padding_repeats_the_edge(height, width, multiple):
    image = torch.rand(1, 2, height, width)
    padded = pad_to_multiple(image, multiple)
    assert padded.shape[2] % multiple == padded.shape[3] % multiple == 0
    assert max(padded.shape[2] - height, padded.shape[3] - width) < multiple
    assert torch.equal(padded[..., :height, :width], image)
    assert torch.equal(padded[..., -1, :width], image[..., -1, :])
