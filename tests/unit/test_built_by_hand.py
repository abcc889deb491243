"""What the lessons build by hand equals the package's and the libraries' versions, on random input."""

import ast
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage, stats
from skimage import filters, measure
from skimage.feature import multiscale_basic_features
from skimage.filters import threshold_otsu
from skimage.measure import label
from sklearn.ensemble import RandomForestClassifier
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torchmetrics.detection import PanopticQuality
from torchvision import ops
from torchvision.models.detection import roi_heads
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator

from course_lib import classical, data, losses, metrics, plots, weights
from course_lib.models import mask_rcnn
from course_lib.models.classifier import Classifier, convolution
from course_lib.models.fcn import FCN
from course_lib.models.gan import PatchDiscriminator
from course_lib.models.unet import UNet

SOLVED = Path(__file__).parents[2] / "notebooks" / "solutions"
quick = settings(max_examples=100, deadline=None)
levels = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12))
masks = st.integers(1, 12).flatmap(lambda side: st.tuples(*[arrays(np.bool_, (side, 5))] * 2))


@cache
def cells(lesson: str):
    return nbformat.read(SOLVED / f"{lesson}.ipynb", as_version=4).cells


def from_lesson(lesson: str, name: str, /, **names: object):
    """The function or class `name` as the solved lesson defines it, which may use the `names` besides."""
    for cell in cells(lesson):
        if cell.cell_type == "code" and (f"def {name}(" in cell.source or f"class {name}(" in cell.source):
            [found] = [node for node in ast.parse(cell.source).body if getattr(node, "name", "") == name]
            scope = {"np": np, "torch": torch, "F": F, "nn": torch.nn, **names}
            exec(compile(ast.unparse(found), f"{lesson}: {name}", "exec"), scope)
            return scope[name]
    raise AssertionError(f"{lesson} defines no {name}")


@quick
@given(levels)
def test_otsu(picture):
    if picture.min() == picture.max():
        return  # one grey level has no threshold; scikit-image returns that level
    ours, between = from_lesson("01_thresholding", "otsu")(picture)
    # Several thresholds may be equally good up to rounding: the library's must be as good as ours.
    assert between[threshold_otsu(picture)] == pytest.approx(between[ours], rel=1e-9)


@quick
@given(masks)
def test_iou(pair):
    assert from_lesson("01_thresholding", "iou")(*pair) == pytest.approx(metrics.image_iou(*pair))


@quick
@given(masks)
def test_dice_and_iou_belong_together(pair):
    dice, iou = from_lesson("01_thresholding", "dice")(*pair), metrics.image_iou(*pair)
    assert dice == pytest.approx(2 * iou / (1 + iou))


@quick
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.6))
def test_bowl_score(seed, density):
    rng = np.random.default_rng(seed)
    truth = label(rng.random((20, 20)) < density)
    prediction = label(np.where(rng.random((20, 20)) < 0.05, 0, truth))
    overlaps = metrics.instance_iou(prediction, truth)
    if sum(overlaps.shape):
        expected = metrics.dsb_score(prediction, truth)
        assert from_lesson("01_thresholding", "bowl_score")(overlaps) == pytest.approx(expected)
        at_half = from_lesson("01_thresholding", "score_at")(overlaps, 0.5)
        assert at_half >= expected - 1e-12, "the score at the loosest limit is the highest"


PIXELS = "02_pixel_classifiers"


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_gaussian_classes(seed, dimensions):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(0, 2, (60, dimensions)), np.arange(60) % 3 // 2
    X[y == 1] = np.cumsum(X[y == 1] * rng.uniform(0.5, 2, dimensions), axis=1) + rng.normal(0, 2, dimensions)
    points = rng.normal(0, 3, (7, 5, dimensions))
    ours = from_lesson(PIXELS, "gaussian_scores")(points, X, y)
    assert ours.shape == (7, 5, 2)
    for c in (0, 1):
        mean, covariance = X[y == c].mean(0), np.atleast_2d(np.cov(X[y == c].T, bias=True))
        normal = stats.multivariate_normal(mean, covariance)  # whose density has 2 pi in it, for all classes alike
        theirs = np.log((y == c).mean()) + normal.logpdf(points) + dimensions / 2 * np.log(2 * np.pi)
        assert np.allclose(ours[..., c], theirs, atol=0.01, rtol=1e-3)


@quick
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 8]))
def test_features_of_pixels(seed, sigma):
    channel = np.random.default_rng(seed).random((21, 34))
    smooth = from_lesson(PIXELS, "blur")(channel, sigma)
    assert np.allclose(smooth, filters.gaussian(channel, sigma), atol=1e-6)
    assert np.allclose(from_lesson(PIXELS, "edge")(smooth), filters.sobel(smooth), atol=1e-6)
    theirs = multiscale_basic_features(channel, sigma_min=sigma, sigma_max=sigma, edges=False)
    assert np.allclose(np.stack([smooth, *from_lesson(PIXELS, "texture")(smooth)], -1), theirs, atol=1e-5)


@quick
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_runs_there_and_back(mask):
    runs = from_lesson(PIXELS, "run_lengths")(mask.astype(np.uint8))
    assert sum(runs) == mask.size
    assert (from_lesson(PIXELS, "from_runs")(runs, *mask.shape) == mask).all()
    theirs = coco.decode(coco.segmToRle({"counts": runs, "size": list(mask.shape)}, *mask.shape[::-1]))
    assert (theirs == mask).all()


@quick
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.floats(0, 1))
def test_the_simulated_annotator_never_lies_and_keeps_to_its_budget(seed, pixels, density):
    rng = np.random.default_rng(seed)
    mask = (ndimage.gaussian_filter(rng.random((30, 41)), 2) > np.quantile(rng.random(99), density)).astype(np.int64)
    painted = from_lesson(PIXELS, "strokes", ndimage=ndimage)(mask, pixels, rng)
    known = painted < 255
    assert (painted[known] == mask[known]).all()
    nuclei, ground = min(round(0.4 * pixels), (mask == 1).sum() // 2), min(round(0.6 * pixels), (mask == 0).sum() // 2)
    assert ((painted == 1).sum(), (painted == 0).sum()) == (nuclei, ground)


def test_unevenness_by_hand():
    unevenness = from_lesson(PIXELS, "unevenness", ndimage=ndimage)
    mask = np.zeros((200, 200), np.int64)
    mask[90:110, 90:110] = 1
    flat = np.where(mask == 1, 150.0, 50.0)[None].repeat(3, 0)
    assert unevenness(flat, mask) == pytest.approx(0, abs=1e-6)
    slope = flat + np.where(mask == 1, 0, np.linspace(-50, 50, 200))
    assert 0.6 < unevenness(slope, mask) < 0.9, (
        "the ground's light spans the contrast of 100, less what smoothing takes"
    )
    assert unevenness(slope, np.zeros_like(mask)) > 0, "a picture without a nucleus has no contrast to compare with"


@pytest.mark.real
def test_five_hundred_painted_pixels_beat_otsu_where_it_fails(mirror):
    strokes = from_lesson(PIXELS, "strokes", ndimage=ndimage)
    describe = from_lesson(PIXELS, "describe", multiscale_basic_features=multiscale_basic_features)
    unevenness = from_lesson(PIXELS, "unevenness", ndimage=ndimage)
    rest_iou = from_lesson(PIXELS, "rest_iou", metrics=metrics)
    names = {"smoothed": from_lesson(PIXELS, "smoothed", ndimage=ndimage), "rest_iou": rest_iou}
    names["new_forest"] = partial(RandomForestClassifier, 50, min_samples_leaf=2, n_jobs=-1, random_state=0)
    painted_iou = from_lesson(PIXELS, "painted_iou", **names)
    pictures = [(image.numpy(), mask.numpy()) for image, mask in data.load("nuclei", "val", mode="real")]
    stained = [pair for pair in pictures if np.ptp(pair[0].astype(int), axis=0).mean() > 4]
    uneven = [pair for pair in pictures if np.ptp(pair[0], axis=0).max() < 5 and unevenness(*pair) > 0.2]
    rng = np.random.default_rng(1)
    for group, gain in ((stained, 0.03), (uneven, 0.08)):
        assert len(group) >= 9
        painted = [strokes(mask, 500, rng) for _, mask in group]
        assert all((each < 255).sum() <= 500 for each in painted)
        forest = [painted_iou(describe(i), m, p) for (i, m), p in zip(group, painted, strict=True)]
        otsu = [rest_iou(classical.otsu_mask(i), m, p) for (i, m), p in zip(group, painted, strict=True)]
        assert np.mean(forest) > np.mean(otsu) + gain


convolutions = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))


@quick
@given(convolutions, st.integers(0, 2**32 - 1))
def test_convolution_and_its_size(shape, seed):
    channels, kernel, stride, padding = shape
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(channels, 7, 9, generator=generator)
    w, b = torch.randn(2, channels, kernel, kernel, generator=generator), torch.randn(2, generator=generator)
    ours = from_lesson("03_cifar_cnn", "convolve")(x, w, b, stride, padding)
    theirs = F.conv2d(x[None], w, b, stride, padding)[0]
    assert torch.allclose(ours, theirs, atol=1e-4)
    size = from_lesson("03_cifar_cnn", "output_size")
    assert theirs.shape[1:] == (size(7, kernel, stride, padding), size(9, kernel, stride, padding))


@quick
@given(st.integers(1, 9), st.integers(2, 6), st.floats(0, 0.9))
def test_cross_entropy_and_smoothing(count, classes, eps):
    generator = torch.Generator().manual_seed(count)
    logits, labels = torch.randn(count, classes, generator=generator), torch.arange(count) % classes
    ours = from_lesson("03_cifar_cnn", "cross_entropy")(logits, labels)
    assert torch.allclose(ours, F.cross_entropy(logits, labels), atol=1e-5)
    targets = from_lesson("03_cifar_cnn", "smooth")(labels, classes, eps)
    theirs = F.cross_entropy(logits, labels, label_smoothing=eps)
    assert torch.allclose(F.cross_entropy(logits, targets), theirs, atol=1e-5)


@quick
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2)), max_size=4))
def test_receptive_field(layers):
    """The gradient says how far one value sees; strides may leave out pixels in between."""
    x = torch.ones(1, 1, 80, requires_grad=True)
    y = x
    for kernel, stride in layers:
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride)
    y[0, 0, 0].backward()
    assert from_lesson("03_cifar_cnn", "receptive_field")(layers) == int(x.grad.nonzero()[:, 2].max()) + 1


def test_the_classifier_is_the_lessons():
    scope: dict = {}
    for name in ("Residual", "whitened", "convolution", "Classifier"):
        scope[name] = from_lesson("03_cifar_cnn", name, **scope)
    pictures = torch.randint(0, 256, (60, 3, 32, 32), dtype=torch.uint8)
    theirs, ours = scope["Classifier"](pictures, (16, 24, 32)), Classifier(channels=(16, 24, 32))
    ours.whiten(pictures)
    for name in ("mean", "stem.weight"):
        assert torch.allclose(theirs.state_dict()[name], ours.state_dict()[name], atol=1e-4)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(5, 3, 32, 32)
    assert torch.equal(theirs(images), ours(images))


CLASSICAL = {
    name: getattr(classical, name) for name in ("filters", "measure", "morphology", "ndimage", "rgb2gray", "watershed")
}


def test_classical_segmentation_is_the_lessons():
    for image, truth in data.load("cells", "val", count=6):
        mask = from_lesson("01_thresholding", "otsu_mask", plots=plots, **CLASSICAL)(image)
        assert np.array_equal(classical.otsu_mask(image), mask)
        for foreground in (mask, truth.numpy() > 0):
            theirs = from_lesson("01_thresholding", "split_touching", **CLASSICAL)(foreground)
            assert np.array_equal(classical.split_touching(foreground), theirs)


@quick
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5))
def test_a_dense_layer_slides(channels, side, outputs):
    dense = torch.nn.Linear(channels * side**2, outputs)
    maps = torch.rand(2, channels, side + 2, side + 3)
    scores = from_lesson("04_fcn", "convolutionalise")(dense, side)(maps)
    for row in range(3):
        for column in range(4):
            window = maps[:, :, row : row + side, column : column + side]
            assert torch.allclose(scores[:, :, row, column], dense(window.flatten(1)), atol=1e-5)


@quick
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2))
def test_transposed_convolution_and_its_size(count, kernel, stride, padding):
    x, w = torch.rand(count), torch.rand(kernel)
    theirs = F.conv_transpose1d(x[None, None], w[None, None], stride=stride)[0, 0]
    assert torch.allclose(from_lesson("04_fcn", "transposed")(x, w, stride), theirs, atol=1e-6)
    size = from_lesson("04_fcn", "transposed_size")(count, kernel, stride, padding)
    assert size == len(theirs) - 2 * padding


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_bilinear_kernel_interpolates(stride):
    line, x = from_lesson("04_fcn", "bilinear_kernel")(stride), torch.rand(1, 1, 9)
    ours = F.conv_transpose1d(x, line[None, None], stride=stride, padding=stride // 2)[..., stride:-stride]
    theirs = F.interpolate(x, scale_factor=stride, mode="linear")[..., stride:-stride]
    assert torch.allclose(ours, theirs, atol=1e-6)


@quick
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.floats(0, 0.9))
def test_losses_are_the_lessons(seed, classes, void):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, 4, 5, generator=generator)
    labels = torch.randint(0, classes, (2, 4, 5), generator=generator)
    labels[torch.rand(2, 4, 5, generator=generator) < void] = 255
    if (labels == 255).all():
        return  # the lesson's divide by zero there, which it shows
    scope = {"one_hot": from_lesson("05_unet", "one_hot")}
    scope["pairs"] = from_lesson("05_unet", "pairs", **scope)
    for name in ("dice", "focal", "l1", "l2"):
        theirs = from_lesson("05_unet", name, **scope)(logits, labels)
        assert torch.allclose(getattr(losses, name)(logits, labels), theirs, atol=1e-5), name


@pytest.mark.parametrize("stride", [16, 8, 4])
def test_the_fcn_is_the_lessons(stride):
    backbone = Classifier(channels=(8, 12, 16), filters=4)
    theirs, ours = from_lesson("04_fcn", "FCN")(backbone, 5, stride).eval(), FCN(backbone, 5, stride).eval()
    for layer in theirs.scores:
        torch.nn.init.normal_(layer.weight)
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 45, 70)
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("skips", "name"), [("none", "EncoderDecoder"), ("add", "AdditiveUNet"), ("concatenate", "ConcatenatingUNet")]
)
def test_the_unet_is_the_lessons(skips, name):
    base = from_lesson("05_unet", "EncoderDecoder", convolution=convolution, pairwise=pairwise)
    scope = {"convolution": convolution, "pairwise": pairwise, "EncoderDecoder": base}
    theirs = from_lesson("05_unet", name, **scope)(channels=(8, 12, 16)).eval()
    ours = UNet(channels=(8, 12, 16), skips=skips).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(2, 3, 64, 48)
    assert torch.allclose(ours(images), theirs(images), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (70, 90), (33, 130)])
def test_tiles_with_a_wide_margin_give_the_whole_pictures_answer(size, tmp_path):
    torch.manual_seed(0)
    net = UNet(channels=(4, 6, 8))  # sees some 30 pixels to each side
    net.normalise = torch.nn.Identity()
    torch.nn.init.normal_(net.head.weight, std=10)  # answers that hang on the picture, not on the bias
    for _ in range(30):
        net(torch.rand(4, 3, 64, 64))  # for the running means of batch normalisation
    net.eval()
    picture = np.lib.format.open_memmap(tmp_path / "picture.npy", "w+", np.uint8, (3, *size))
    picture[:] = np.random.default_rng(0).integers(0, 256, picture.shape)
    predict = from_lesson("05_unet", "predict_tiles", lesson=SimpleNamespace(device="cpu"))
    with torch.inference_mode():
        whole = net(torch.tensor(picture)[None] / 255).argmax(1)[0].numpy()
    assert np.array_equal(predict(net, picture, tile=32, margin=64), whole)
    sides = []
    net.register_forward_pre_hook(lambda module, args: sides.append(max(args[0].shape[2:])))
    assert not np.array_equal(predict(net, picture, tile=32, margin=0), whole)
    assert max(sides) == 32, "no more than a tile at once"


def test_the_lessons_vgg16_gives_fcn_32s_16s_and_8s(capsys):
    scope = {"weights": weights, "lesson": SimpleNamespace(profile="smoke"), "imagenet": torch.nn.Identity()}
    backbone = from_lesson("04_fcn", "VGG16", **scope)()
    assert "random" in capsys.readouterr().out
    for stride in (32, 16, 8):
        assert FCN(backbone, 21, stride).eval()(torch.rand(1, 3, 40, 50)).shape == (1, 21, 40, 50)


@quick
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9)))
def test_pieces_and_holes(mask):
    ours = metrics.pieces_and_holes(mask)
    assert from_lesson("06_gan_segmentation", "pieces_and_holes", measure=measure)(mask) == ours
    around = np.pad(~mask, 1, constant_values=True)  # what lies outside is one region, and no hole
    assert ours == (ndimage.label(mask, np.ones((3, 3)))[1], ndimage.label(around)[1] - 1)


@quick
@given(st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_paired_interval(count, seed):
    before, after = np.random.default_rng(seed).normal(size=(2, count))
    by_hand = from_lesson("06_gan_segmentation", "paired_interval", stats=stats)(before, after)
    assert by_hand == pytest.approx(stats.ttest_rel(after, before).confidence_interval())


def test_discriminator_loss():
    real, fake = torch.randn(2, 7)
    ours = losses.discriminator(real, fake)
    assert torch.allclose(from_lesson("06_gan_segmentation", "discriminator_loss")(real, fake), ours)


def test_the_discriminator_is_the_lessons():
    discriminator_of = from_lesson("06_gan_segmentation", "discriminator_of", lesson=SimpleNamespace(device="cpu"))
    theirs, ours = discriminator_of(5, spectral_norm), PatchDiscriminator(5)
    ours.load_state_dict(theirs.state_dict())
    assert torch.equal(ours.eval()(x := torch.rand(2, 5, 40, 48)), theirs.eval()(x))


DETECTOR = "07_mask_rcnn"
seeds = st.integers(0, 2**32 - 1)


def boxes_of(count, seed):
    """Random boxes [count, 4] in a picture of 96 x 96, at whole pixels now and then."""
    generator = torch.Generator().manual_seed(seed)
    corner, extent = torch.rand(2, count, 2, generator=generator)
    found = torch.cat([60 * corner, 60 * corner + 1 + 35 * extent], 1)
    return found.round() if seed % 3 == 0 else found


@quick
@given(seeds)
def test_box_iou(seed):
    a, b = boxes_of(7, seed), boxes_of(5, seed + 1)
    assert torch.allclose(from_lesson(DETECTOR, "box_iou")(a, b), ops.box_iou(a, b), atol=1e-6)


@quick
@given(seeds)
def test_deltas(seed):
    anchors, boxes = boxes_of(6, seed), boxes_of(6, seed + 1)
    deltas = from_lesson(DETECTOR, "encode")(anchors, boxes)
    assert torch.allclose(deltas, BoxCoder((1.0,) * 4).encode_single(boxes, anchors), atol=1e-5)
    assert torch.allclose(from_lesson(DETECTOR, "decode")(anchors, deltas), boxes, atol=1e-3)


@quick
@given(seeds, st.floats(0.0625, 0.875, width=32))  # 32 bits: torchvision compares in 64, ours in 32
def test_nms(seed, threshold):
    boxes, scores = boxes_of(25, seed), torch.rand(25, generator=torch.Generator().manual_seed(seed))
    ours = from_lesson(DETECTOR, "nms", ops=ops)(boxes, scores, threshold)
    assert ours.tolist() == ops.nms(boxes, scores, threshold).tolist()


def test_anchors_are_torchvisions():
    grid = AnchorGenerator(((24,),), ((2.0,),)).grid_anchors([[3, 5]], [[torch.tensor(8), torch.tensor(8)]])[0]
    ours = from_lesson(DETECTOR, "anchors_on")(3, 5, 8, 24, 2.0)
    assert torch.allclose(ours, grid, atol=0.51), "torchvision rounds its anchors to whole pixels"


@quick
@given(seeds)
def test_anchor_labels(seed):
    overlaps = ops.box_iou(boxes_of(40, seed), boxes_of(4, seed + 1))
    matched = Matcher(0.7, 0.3, allow_low_quality_matches=True)(overlaps.T)
    theirs = torch.where(matched >= 0, 1, torch.where(matched == Matcher.BELOW_LOW_THRESHOLD, 0, -1))
    if (overlaps.amax(0) > 0).all():  # an object that no anchor touches makes torchvision call all of them its best
        assert torch.equal(from_lesson(DETECTOR, "anchor_labels")(overlaps).long(), theirs)


@quick
@given(seeds, st.sampled_from([2, 7]), st.sampled_from([1 / 4, 1 / 8, 1.0]))
def test_roi_pooling_and_align(seed, size, scale):
    features = torch.randn(2, 100, 110, generator=torch.Generator().manual_seed(seed))
    [box] = boxes_of(1, seed)
    given_ = (features[None], [box[None]], size, scale)
    assert torch.allclose(from_lesson(DETECTOR, "roi_pool")(features, box, size, scale), ops.roi_pool(*given_)[0])
    theirs = ops.roi_align(*given_, sampling_ratio=2, aligned=True)[0]
    assert torch.allclose(from_lesson(DETECTOR, "roi_align")(features, box, size, scale), theirs, atol=1e-4)


def test_the_lessons_losses_of_heads_are_torchvisions():
    logits, deltas, wanted = torch.randn(9, 4), torch.randn(9, 16), torch.randn(9, 4)
    labels = torch.randint(0, 4, (9,))
    theirs = roi_heads.fastrcnn_loss(logits, deltas, [labels], [wanted])
    ours = from_lesson(DETECTOR, "head_losses")(logits, deltas, labels, wanted)
    assert torch.allclose(torch.stack(ours), torch.stack(theirs))
    masks, labels = (torch.rand(3, 28, 28) > 0.5).float(), torch.tensor([1, 3, 2])
    logits, whole = torch.randn(3, 4, 28, 28), torch.tensor([[0.0, 0, 28, 28]]).repeat(3, 1)
    theirs = roi_heads.maskrcnn_loss(logits, [whole], [masks], [labels], [torch.arange(3)])
    assert torch.allclose(from_lesson(DETECTOR, "mask_loss")(logits, labels, masks), theirs, atol=0.02)


@quick
@given(seeds)
def test_label_map(seed):
    rng = np.random.default_rng(seed)
    masks = torch.zeros(6, 1, 20, 20)
    for number, (top, left) in enumerate(rng.integers(0, 15, (6, 2))):
        masks[number, 0, top : top + 6, left : left + 5] = 0.8
    found = {"masks": masks, "scores": torch.from_numpy(rng.random(6)).sort(descending=True).values}
    assert np.array_equal(from_lesson(DETECTOR, "label_map")(found), mask_rcnn.label_map(found))


def test_failures_of_each_kind():
    true, found = np.zeros((2, 10, 60), int)
    true[2:8, 2:8], true[2:8, 8:14] = 1, 2  # merged
    found[2:8, 2:14] = 1
    true[2:8, 20:32] = 3  # split
    found[2:8, 20:26], found[2:8, 26:32] = 2, 3
    true[2:8, 40:46] = 4  # missed
    found[2:8, 50:56] = 4  # false
    kinds = from_lesson(DETECTOR, "failures")(found, true)
    assert {kind: ids.tolist() for kind, ids in kinds.items()} == {
        "merged": [1],
        "split": [3],
        "missed": [4],
        "false": [4],
    }
    right = from_lesson(DETECTOR, "failures")(true, true)
    assert not any(ids.size for ids in right.values())


LEADERBOARD = "08_leaderboard"


@quick
@given(seeds)
def test_panoptic_quality(seed):
    rng = np.random.default_rng(seed)
    pairs = []
    for density in (0.3, 0.45):
        truth = label(rng.random((20, 24)) < density)
        pairs.append((label(np.where(rng.random(truth.shape) < 0.08, 0, truth > 0)), truth))
    ours = from_lesson(LEADERBOARD, "panoptic_quality", metrics=metrics)
    theirs = from_lesson(LEADERBOARD, "library_pq", PanopticQuality=PanopticQuality)
    assert ours(pairs) == pytest.approx(theirs(pairs), abs=1e-6)


def test_panoptic_quality_of_the_example_in_the_lesson():
    truth, found = np.zeros((2, 10, 40), int)
    truth[0, :10], truth[4, :10], truth[8, :10] = 1, 2, 3
    found[0, :8], found[6, 20:30] = 1, 2  # one match of IoU 0.8, one false, two missed
    assert from_lesson(LEADERBOARD, "panoptic_quality", metrics=metrics)([(found, truth)]) == pytest.approx(0.32)


@quick
@given(seeds)
def test_paired_bootstrap(seed):
    rng = np.random.default_rng(seed)
    difference = rng.normal(0.02, 0.1, 60)
    ours = from_lesson(LEADERBOARD, "bootstrap_interval")(difference, rng.integers(0, 60, (4000, 60)))
    found = stats.bootstrap((difference,), np.mean, method="percentile", n_resamples=4000, rng=rng)
    assert ours == pytest.approx(list(found.confidence_interval), abs=0.15 * difference.std() / 60**0.5 * 2)


@quick
@given(seeds)
def test_pareto_front(seed):
    rng = np.random.default_rng(seed)
    seconds, quality = rng.integers(0, 5, (2, 8)).astype(float)
    front = from_lesson(LEADERBOARD, "pareto_front")(seconds, quality)
    for k in range(8):
        beaten = any(
            s <= seconds[k] and q >= quality[k] and (s, q) != (seconds[k], quality[k])
            for s, q in zip(seconds, quality, strict=True)
        )
        assert front[k] == (not beaten)
