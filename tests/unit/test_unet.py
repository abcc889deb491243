"""The U-Net: any size, channels and classes; skips that matter; pictures that do not mix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.errors import InputError
from course_lib.models.unet import SKIPS, UNet


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(SKIPS),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_any_size_any_channels_any_classes(height, width, skips, stride, inputs, classes):
    model = UNet(classes, inputs, (4, 6, 8), skips, stride).eval()
    assert model(torch.rand(2, inputs, height, width)).shape == (2, classes, height, width)


@pytest.mark.parametrize("skips", SKIPS)
def test_a_skip_carries_detail_around_the_bottleneck(skips):
    """With the bottleneck cut, only skip connections can tell where in the picture something is."""
    torch.manual_seed(0)
    model = UNet(2, 3, (4, 6, 8), skips).eval()
    model.encoder[-1].register_forward_hook(lambda module, x, y: torch.zeros_like(y))
    one, other = model(torch.rand(2, 3, 32, 32))
    assert torch.equal(one, other) == (skips == "none")


def test_pictures_of_a_batch_do_not_mix():
    model = UNet(2, 3, (4, 6, 8)).eval()
    batch = torch.rand(3, 3, 32, 32, requires_grad=True)
    model(batch)[1].sum().backward()
    assert (batch.grad.flatten(1).abs().sum(1) > 0).tolist() == [False, True, False]


def test_unknown_skips_list_the_known():
    with pytest.raises(InputError, match=r"skips = 'sum'[\s\S]*none, add, concatenate"):
        UNet(skips="sum")
