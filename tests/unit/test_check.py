"""Self-checks: open, passed, and for every known mistake its own advice."""

import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from faster_coco_eval.core import mask as coco
from scipy.stats import ttest_ind, ttest_rel
from skimage.measure import euler_number, label
from sklearn.neighbors import NearestCentroid
from torch import nn
from torch.nn import functional as F
from torch.nn.functional import binary_cross_entropy_with_logits as entropy
from torchvision import ops
from torchvision.models.detection._utils import BoxCoder

from course_lib import check
from course_lib.cli import notebooks
from course_lib.cli.errors import NotebookError
from course_lib.cli.exercises import Draw, Exercise, bullets, constants, read, recorded


def normalised(x, dim=(1, 2), correction=1):
    pixels = x.double()
    return (pixels - pixels.mean(dim, keepdim=True)) / pixels.std(dim, keepdim=True, correction=correction)


def area(labels):
    return np.bincount(labels.ravel())[labels]


def true_dice(p, t):
    return 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else 1.0


def border(mask):
    frame = np.ones(mask.shape, bool)
    frame[1:-1, 1:-1] = False
    return mask[frame]


def hits(overlaps, limit):
    return (overlaps > limit).sum()


def seen(layers):
    field = step = 1
    for kernel, stride in layers:
        field, step = field + (kernel - 1) * step, step * stride
    return field


def interpolation(stride):
    return torch.tensor(
        [(i + 0.5) / stride for i in range(stride)] + [(stride - i - 0.5) / stride for i in range(stride)]
    )


def early(layers):
    field = step = 1
    for kernel, stride in layers:
        step *= stride
        field += (kernel - 1) * step
    return field


def whole(layers):
    field = step = 1
    for kernel, stride in layers:
        field, step = field + kernel * step, step * stride
    return field


def forgetful(layers):
    field = step = 1
    for kernel, stride in layers:
        field, step = field + (kernel - 1) * step, stride
    return field


RIGHT = [
    (check.batch_shape, (8, 3, 96, 128)),
    (check.batch_shape, torch.Size([8, 3, 96, 128])),
    (check.normalise, normalised),
    (check.normalise, lambda x: normalised(x, correction=0)),
    (check.panoptic, lambda s, i: s * 1000 + i),
    (check.dice, true_dice),
    (check.background_at_border, lambda m: ~m if border(m).mean() > 0.5 else m),
    (check.iou_from_dice, 2 / 3),
    (check.iou_from_dice, 0.67),
    (check.remove_small, lambda m, a: np.where(area(m) >= a, m, 0)),
    (check.nearest_mean, lambda x, m: NearestCentroid().fit(m, np.arange(len(m))).predict(x)),
    (check.from_runs, lambda c, h, w: coco.decode(coco.segmToRle({"counts": list(c), "size": [h, w]}, w, h))),
    (check.corrected, lambda p, a, b: 1 / (1 + (1 / p - 1) * (1 / b - 1) / (1 / a - 1))),
    (check.points_or_masks, 1090),
    (check.score_at, lambda o, t: hits(o, t) / (sum(o.shape) - hits(o, t))),
    (check.box_iou, ops.box_iou),
    (check.encode, lambda a, b: BoxCoder((1.0,) * 4).encode_single(b, a)),
    (check.nms, ops.nms),
    (check.detector_labels, lambda ids: (torch.arange(len(ids))[ids >= 0], (ids + 1)[ids >= 0])),
    (check.output_size, lambda h, k, s, p: (h + 2 * p - k) // s + 1),
    (check.output_size, lambda h, k, s, p: len(range(0, h + 2 * p - k + 1, s))),
    (check.receptive_field, seen),
    (check.cross_entropy, lambda z, y: (z.logsumexp(1) - z.gather(1, y[:, None])[:, 0]).mean()),
    (check.cross_entropy, lambda z, y: -(z.log_softmax(1) * F.one_hot(y, z.shape[1])).sum(1).mean()),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) * (1 - e) + e / c),
    (check.dense_to_convolution, lambda w, c, k: w.view(-1, c, k, k)),
    (check.bilinear_kernel, interpolation),
    (check.transposed_size, lambda n, k, s, p: nn.ConvTranspose1d(1, 1, k, s, p)(torch.zeros(1, n)).shape[-1]),
    (check.valid_mean, lambda x, y: (x * (y < 255)).sum() / (y < 255).sum()),
    (check.padding, lambda n, s: (s - n) % s),
    (check.dice_loss, lambda p, t: 1 - 2 * (p * t).sum() / (p + t).sum()),
    (check.median_frequency, lambda n: (n / n.sum()).median() / (n / n.sum())),
    (check.mirror, lambda x, y: (x[:, :, torch.arange(x.shape[2] - 1, -1, -1)], y.fliplr())),
    (check.discriminator_loss, lambda r, f: 0.5 * (F.softplus(-r).mean() + F.softplus(f).mean())),
    (check.discriminator_loss, lambda r, f: (entropy(r, r * 0 + 1) + entropy(f, f * 0)) / 2),
    (
        check.pieces_and_holes,
        lambda m: (
            label(m, connectivity=2).max(),
            label(np.pad(~m, 1, constant_values=True), connectivity=1).max() - 1,
        ),
    ),
    (check.paired_interval, lambda b, a: ttest_rel(a, b).confidence_interval()),
    (check.two_averages, lambda o, u: (float(np.mean(o / u)), o.sum() / u.sum())),
    (check.bootstrap_interval, lambda d, i: np.quantile(np.array([d[row].mean() for row in i]), (0.025, 0.975))),
    (
        check.choose_then_report,
        lambda s, c: (k := int(np.argmax((s * c).sum(1))), float(s[k][~c].mean())),
    ),
    (
        check.pareto_front,
        lambda s, q: [not ((s <= a) & (q >= b) & ((s < a) | (q > b))).any() for a, b in zip(s, q, strict=True)],
    ),
]

WRONG = [
    (check.nearest_mean, lambda x, m: ((x[:, None] - m) ** 2).sum(-1).argmax(1), "farthest mean"),
    (check.nearest_mean, lambda x, m: (x @ m.T).argmax(1), "long means win"),
    (check.from_runs, lambda c, h, w: (np.repeat(np.arange(len(c)) % 2, c)).reshape(h, w), "runs go down"),
    (check.from_runs, lambda c, h, w: np.repeat(1 - np.arange(len(c)) % 2, c).reshape(h, w, order="F"), "counts zeros"),
    (check.corrected, lambda p, a, b: p * b / a, "no longer adds up to 1"),
    (check.corrected, lambda p, a, b: 1 / (1 + (1 / p - 1) * (1 / a - 1) / (1 / b - 1)), "other way round"),
    (check.points_or_masks, 240 / 22 * 100, "round down"),
    (check.points_or_masks, 22 * 100 // 240, "other way round"),
    (check.batch_shape, (8, 96, 128, 3), "channels first"),
    (check.batch_shape, (8, 3, 128, 96), "height comes before width"),
    (check.batch_shape, (3, 96, 128), "one more dimension"),
    (check.batch_shape, (3, 8, 96, 128), "batch dimension comes first"),
    (check.batch_shape, (8, 1, 96, 128), "three channels"),
    (check.batch_shape, (8, 96, 128), "channels are missing"),
    (check.batch_shape, 5, "is not it"),
    (check.normalise, lambda x: normalised(x, dim=(0, 1, 2)), "per channel"),
    (check.normalise, lambda x: x.double() / 255, "scales to 0..1"),
    (check.normalise, lambda x: x.double() - x.double().mean((1, 2), keepdim=True), "standard deviation too"),
    (check.normalise, lambda x: normalised(x) / x.double().std((1, 2), keepdim=True), "variance"),
    (check.normalise, lambda x: (x - x.double().mean((1, 2), True)) / x.double().std(), "one deviation for all"),
    (
        check.normalise,
        lambda x: x - x.double().mean((1, 2), True) / x.double().std((1, 2), keepdim=True),
        "subtract first",
    ),
    (check.panoptic, lambda s, i: 1000 * (s + i), "only the class is shifted"),
    (check.panoptic, lambda s, i: s + i, "share the id 10"),
    (check.panoptic, lambda s, i: i * 1000 + s, "class belongs in front"),
    (check.panoptic, lambda s, i: s * 1000, "instance is missing"),
    (check.panoptic, lambda s, i: s * i, "product"),
    (check.dice, lambda p, t: (p & t).sum() / max((p | t).sum(), 1) if (p | t).any() else 1.0, "that is the IoU"),
    (check.dice, lambda p, t: true_dice(p, t) / 2 if (p | t).any() else 1.0, "counts twice"),
    (check.dice, lambda p, t: true_dice(p, t) if (p | t).any() else float("nan"), "instead of dividing 0 by 0"),
    (check.dice, lambda p, t: true_dice(p, t) if (p | t).any() else 0.0, "not 0"),
    (check.dice, lambda p, t: (p & t).sum() / (p | t).sum(), "that is the IoU"),
    (check.dice, lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()), "instead of dividing 0 by 0"),
    (check.dice, lambda p, t: (p & t).sum() / (p.sum() + t.sum()), "counts twice"),
    (check.dice, lambda p, t: 2 * (p & t).sum() / (p + t).sum(), "means *or*"),
    (check.dice, lambda p, t: (p == t).mean(), "pixel accuracy"),
    (check.background_at_border, lambda m: ~m if m.mean() > 0.5 else m, "only the border"),
    (check.background_at_border, lambda m: ~m, "always invert"),
    (check.background_at_border, lambda m: m, "never invert"),
    (check.background_at_border, lambda m: m if border(m).mean() > 0.5 else ~m, "other way round"),
    (check.background_at_border, lambda m: ~m if m[0].mean() > 0.5 else m, "first row"),
    (
        check.background_at_border,
        lambda m: ~m if np.concatenate([m[0], m[-1], m[:, 0], m[:, -1]]).mean() > 0.5 else m,
        "corners counted twice",
    ),
    (check.background_at_border, lambda m: ~m if border(m).mean() >= 0.5 else m, "exactly half"),
    (check.background_at_border, lambda m: ~m if m[[0, -1]].mean() > 0.5 else m, "two sides only"),
    (check.background_at_border, lambda m: ~m if m[:, [0, -1]].mean() > 0.5 else m, "two sides only"),
    (check.background_at_border, lambda m: ~m if m[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.5 else m, "the corners"),
    (check.iou_from_dice, 4 / 9, "algebra"),
    (check.iou_from_dice, 0.8 / 2.8, "algebra"),
    (check.iou_from_dice, 0.8, "agree only at 0 and 1"),
    (check.iou_from_dice, 8 / 9, "from IoU to Dice"),
    (check.iou_from_dice, 0.4, "halving"),
    (check.remove_small, lambda m, a: np.where(area(m) > a, m, 0), "compare with >="),
    (check.remove_small, lambda m, a: np.where(area(m) < a, m, 0), "kept the small ones"),
    (check.remove_small, lambda m, a: (area(m) >= a) & (m > 0), "own number"),
    (check.remove_small, lambda m, a: area(m) >= a, "background became foreground"),
    (check.remove_small, lambda m, a: label(np.where(area(m) >= a, m, 0) > 0), "numbered them anew"),
    (check.remove_small, lambda m, a: np.where(m >= a, m, 0), "not their areas"),
    (check.remove_small, lambda m, a: m * 0, "some of the values differ"),
    (check.score_at, lambda o, t: hits(o, t) / o.shape[0], "precision"),
    (check.score_at, lambda o, t: hits(o, t) / o.shape[1], "recall"),
    (check.score_at, lambda o, t: hits(o, t) / sum(o.shape), "counted twice"),
    (check.score_at, lambda o, t: 2 * hits(o, t) / sum(o.shape), "F1"),
    (check.score_at, lambda o, t: (o >= t).sum() / (sum(o.shape) - (o >= t).sum()), "compare with >"),
    (check.output_size, lambda h, k, s, p: (h + p - k) // s + 1, "both sides"),
    (check.output_size, lambda h, k, s, p: (h + 2 * p - k) // s, "first place counts"),
    (check.output_size, lambda h, k, s, p: (h + 2 * p - k + 1) // s, "after the division"),
    (check.output_size, lambda h, k, s, p: (h + 2 * p - k) / s + 1, "rounds down"),
    (check.output_size, lambda h, k, s, p: -((k - h - 2 * p) // s) + 1, "rounds up"),
    (check.output_size, lambda h, k, s, p: (h - k) // s + 1, "padding is missing"),
    (check.output_size, lambda h, k, s, p: h // s, "makes up for the kernel"),
    (check.receptive_field, lambda ls: 1 + sum(k - 1 for k, _ in ls), "strides are missing"),
    (check.receptive_field, lambda ls: seen(ls) - 1, "begin with 1"),
    (check.receptive_field, lambda ls: 1 + sum(k * s for k, s in ls), "use the recursion"),
    (check.receptive_field, lambda ls: sum(k for k, _ in ls), "windows overlap"),
    (check.receptive_field, early, "enlarge the step last"),
    (check.receptive_field, whole, "spans k - 1 steps"),
    (check.receptive_field, forgetful, "strides multiply"),
    (check.cross_entropy, lambda z, y: (z.logsumexp(1) - z[:, y]).mean(), "mixes pictures"),
    (check.cross_entropy, lambda z, y: -z.log_softmax(0).gather(1, y[:, None]).mean(), "dim 1, not 0"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) * (1 - e) + e, "shared"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) + e / c, "from the true class first"),
    (check.cross_entropy, lambda z, y: -z.softmax(1).gather(1, y[:, None]).log().mean(), "leave log(0)"),
    (
        check.cross_entropy,
        lambda z, y: (z.exp().sum(1).log() - z.gather(1, y[:, None])[:, 0]).mean(),
        "large ones overflow",
    ),
    (check.cross_entropy, lambda z, y: F.cross_entropy(z, y, reduction="sum"), "sum over the batch"),
    (check.cross_entropy, lambda z, y: z.logsumexp(1) - z.gather(1, y[:, None])[:, 0], "one loss a picture"),
    (check.cross_entropy, lambda z, y: -F.cross_entropy(z, y), "sign"),
    (check.cross_entropy, lambda z, y: F.cross_entropy(z.softmax(1), y), "taken twice"),
    (check.cross_entropy, lambda z, y: -z.gather(1, y[:, None]).mean(), "log-sum-exp over the classes is missing"),
    (check.cross_entropy, lambda z, y: z.logsumexp(1).mean(), "true class is missing"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) * (1 - e - e / c) + e / c, "sum to 1"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) * (1 - e - e / (c - 1)) + e / (c - 1), "spread over all classes"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) * (1 - 2 * e) + e, "shared"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c), "one-hot"),
    (check.smooth, lambda y, c, e: F.one_hot(y, c) * (1 - e / c) + e / c, "give up"),
    (check.dense_to_convolution, lambda w, c, k: w.view(-1, k, k, c).movedim(-1, 1), "no permute"),
    (check.dense_to_convolution, lambda w, c, k: w.view(-1, k, k, c), "channels come before"),
    (check.dense_to_convolution, lambda w, c, k: w.view(-1, c, k, k).mT, "swapped"),
    (check.dense_to_convolution, lambda w, c, k: w.view(c, -1, k, k), "outputs first"),
    (check.dense_to_convolution, lambda w, c, k: w.view(len(w), c, -1), "last dimension"),
    (check.dense_to_convolution, lambda w, c, k: w[:, :, None, None], "1 x 1 convolution"),
    (check.dense_to_convolution, lambda w, c, k: w.view(-1, c, k, k)[None], "four dimensions"),
    (check.bilinear_kernel, lambda s: 1 - (torch.arange(2 * s) - s).abs() / s, "between two pixels"),
    (check.bilinear_kernel, lambda s: 1 - (torch.arange(2 * s) - s - 0.5).abs() / s, "not s + 1/2"),
    (check.bilinear_kernel, lambda s: interpolation(s) / sum(interpolation(s)), "two stamps"),
    (check.bilinear_kernel, lambda s: 1 - (torch.arange(2 * s) - s + 0.5).abs() / (2 * s), "kernel's length"),
    (check.bilinear_kernel, lambda s: (torch.arange(2 * s) - s + 0.5).abs() / s, "is the distance"),
    (check.bilinear_kernel, lambda s: torch.outer(interpolation(s), interpolation(s)), "one dimension is asked"),
    (check.bilinear_kernel, lambda s: torch.full((2 * s,), 0.5), "wherever between them"),
    (check.transposed_size, lambda n, k, s, p: n * s, "holds only if"),
    (check.transposed_size, lambda n, k, s, p: n * s + k - 2 * p, "n - 1 steps"),
    (check.transposed_size, lambda n, k, s, p: n * s - s + k + 2 * p, "subtract it"),
    (check.transposed_size, lambda n, k, s, p: n * s - s + k - p, "both sides"),
    (check.transposed_size, lambda n, k, s, p: n * s - s + k, "padding is missing"),
    (check.transposed_size, lambda n, k, s, p: (n + 2 * p - k) // s + 1, "other way"),
    (check.valid_mean, lambda x, y: x.mean(), "still in it"),
    (check.valid_mean, lambda x, y: torch.where(y == 255, 0, x).mean(), "divide by the number"),
    (check.valid_mean, lambda x, y: x[y < 255].sum(), "that is the sum"),
    (check.valid_mean, lambda x, y: x[y == 255].mean(), "keep the others"),
    (check.valid_mean, lambda x, y: x[y < 255], "take their mean"),
    (
        check.valid_mean,
        lambda x, y: sum(a[b < 255].mean() for a, b in zip(x, y, strict=True)) / len(x),
        "one mean over all",
    ),
    (check.discriminator_loss, lambda r, f: -F.logsigmoid(r).mean() - F.logsigmoid(-f).mean(), "not their sum"),
    (check.discriminator_loss, lambda r, f: entropy(torch.cat([r, f]), torch.cat([r * 0 + 1, f * 0])), "half and half"),
    (
        check.pieces_and_holes,
        lambda m: (label(m, connectivity=1).max(), label(m, connectivity=1).max() - euler_number(m, 1)),
        "joined at a corner",
    ),
    (check.paired_interval, lambda b, a: ttest_ind(a, b).confidence_interval(), "of each pair first"),
    (check.box_iou, lambda a, b: ops.box_iou(b, a), "a row for each box of a"),
    (check.encode, lambda a, b: BoxCoder((1.0,) * 4).encode_single(a, b), "the other way round"),
    (check.nms, lambda b, s, t: b[ops.nms(b, s, t)], "return their indices"),
    (check.nms, lambda b, s, t: ops.nms(b, s, t).sort().values, "best first"),
    (check.detector_labels, lambda ids: ((ids >= 0).nonzero(), torch.zeros(9)), "not the arrays that were expected"),
    (check.detector_labels, lambda ids: (ids.nonzero()[:, 0], ids[ids != 0] + 1), "not the arrays that were expected"),
    (check.two_averages, lambda o, u: (o.mean() / u.mean(), (o / u).mean()), "the other way round"),
    (check.bootstrap_interval, lambda d, i: np.percentile(d, (2.5, 97.5)), "not of their mean"),
    (check.bootstrap_interval, lambda d, i: np.quantile(d[i], (0.025, 0.975)), "mean of each drawing, a row, first"),
    (check.choose_then_report, lambda s, c: (s.mean(1).argmax(), s.mean(1).max()), "it is the lottery"),
    (check.choose_then_report, lambda s, c: (0, s[0].mean()), "expected"),
    (check.pareto_front, lambda s, q: s <= min(s), "only a little slower"),
    (check.pareto_front, lambda s, q: q >= q.max(), "only a little worse"),
]


@pytest.mark.parametrize(("checked", "answer"), RIGHT)
def test_right_answers_pass(checked, answer, capsys):
    outcome = checked(answer)
    assert outcome.state == "passed"
    assert capsys.readouterr().out == f"{outcome}\n"


@pytest.mark.parametrize(("checked", "answer", "advice"), WRONG)
def test_wrong_answers_get_their_own_advice(checked, answer, advice):
    outcome = checked(answer)
    assert outcome.state == "wrong"
    assert advice in outcome.message


EXERCISES = dir(check)
SOLUTIONS = Path(__file__).parents[2] / "notebooks" / "solutions"
SOURCES = {path.stem: read(path) for path in sorted(SOLUTIONS.glob("*.py"))}
DEFINED = [(name, exercise) for found in SOURCES.values() for name, exercise in found.items()]
NAMED = [(lesson, name) for lesson, found in SOURCES.items() for name in found if found[name].constants]
SHARED = {  # exercises in which two mistakes get one advice
    "background_at_border": "two sides only: the border has four.",
    "iou_from_dice": "check your algebra: J (2 - D) = D.",
    "points_or_masks": "that is the other way round: points are the faster ones.",
    "smooth": "eps is to be shared: eps / classes for each.",
    "padding": "that is what is left over; add what is missing to the next multiple.",
    "mirror": "dimension 0 of the image holds its colours.",
}
DRAWS = 8  # of other cases; the more, the longer
UNAVOIDABLE = {"receptive_field": [[[]]]}  # public cases that other draws have, too: there is one empty list of layers


def test_every_exercise_is_tested():
    assert {checked.args[0] for checked, *_ in RIGHT} == set(EXERCISES) == {name for name, _ in DEFINED}


@pytest.mark.parametrize(("name", "exercise"), DEFINED, ids=[name for name, _ in DEFINED])
def test_every_known_mistake_gets_its_own_advice(name, exercise):
    checked = getattr(check, name)
    assert checked(exercise.right).state == "passed"
    for _, wrong, advice in exercise.mistakes:
        assert (checked(wrong).state, checked(wrong).message) == ("wrong", advice)


@pytest.mark.parametrize(("name", "exercise"), DEFINED, ids=[name for name, _ in DEFINED])
def test_mistakes_have_names_of_their_own_and_share_advice_only_on_purpose(name, exercise):
    names, advice = zip(*((what, advice) for what, _, advice in exercise.mistakes), strict=True)
    assert len(set(names)) == len(names)
    assert {text for text, count in Counter(advice).items() if count > 1} == {SHARED.get(name)} - {None}


@pytest.mark.parametrize(("name", "exercise"), DEFINED, ids=[name for name, _ in DEFINED])
def test_the_guide_shows_advice_as_it_is_printed(name, exercise):
    shown = []
    for token in notebooks.tokens(bullets(exercise)):
        marks = [part.type for part in token.children or []]
        if marks:
            last = token.children[marks.index("em_open") :]
            assert [part.type for part in last if part.nesting] == ["em_open", "em_close"]
            shown.append("".join(f"`{part.content}`" if part.type == "code_inline" else part.content for part in last))
    assert shown == [advice for _, _, advice in exercise.mistakes]


def compare(monkeypatch, name, exercise):
    """The check of an exercise, made to compare with this version of it."""
    record = json.loads(json.dumps(exercise.record()))
    monkeypatch.setattr(check, "_records", lambda: {name: record})
    return record, getattr(check, name)


@pytest.mark.parametrize("lesson", SOURCES)
def test_other_cases_tell_right_from_wrong_even_to_who_knows_the_public_ones(lesson, monkeypatch):
    rights = [(checked.args[0], answer) for checked, answer in RIGHT]
    public = {name: exercise.record() for name, exercise in SOURCES[lesson].items() if exercise.cases}
    public = {name: json.loads(json.dumps(record["cases"])) for name, record in public.items()}
    seen = {name: [cases] for name, cases in public.items()}
    for number in range(1, DRAWS + 1):
        drawn = read(SOLUTIONS / f"{lesson}.py", Draw(cases=number))
        for name in seen:
            record, checked = compare(monkeypatch, name, drawn[name])
            assert record["cases"] not in seen[name], "drawn before"
            seen[name].append(record["cases"])
            answers = [drawn[name].right, *(answer for other, answer in rights if other == name)]
            assert [checked(answer).message for answer in answers if checked(answer).state != "passed"] == []
            new = [place for place, case in enumerate(record["cases"]) if case not in public[name]]
            known = [record["cases"][place] for place in {*range(len(record["cases"]))} - {*new}]
            assert known == UNAVOIDABLE.get(name, [])
            for advice, wrong in record["mistakes"]:
                told = [not check._same(wrong[place], record["right"][place], record["atol"]) for place in new]
                assert any(told), f"{name}, draw {number}: as good as right is what gets the advice {advice!r}"


@pytest.mark.parametrize("variant", range(1, 7))
@pytest.mark.parametrize(("lesson", "name"), NAMED)
def test_a_variant_has_numbers_and_advice_of_its_own(lesson, name, variant, monkeypatch):
    own, other = SOURCES[lesson][name], read(SOLUTIONS / f"{lesson}.py", Draw(variant))[name]
    assert own.constants.keys() == other.constants.keys()
    assert [place for place in own.constants if own.constants[place] == other.constants[place]] == []
    _, checked = compare(monkeypatch, name, other)
    assert checked(other.right).state == "passed"
    assert checked(own.right).state == "wrong"
    for _, wrong, advice in other.mistakes:
        assert (checked(wrong).state, checked(wrong).message) == ("wrong", advice)


def test_students_of_a_variant_read_its_numbers():
    path = SOLUTIONS / "02_pixel_classifiers.ipynb"
    values = constants(read(path.with_suffix(".py"), Draw(variant=2)), path.name)
    nb = notebooks.constants(notebooks.derive(notebooks.read(path)), values, path.name, marks=False)
    (text,) = [cell.source for cell in nb.cells if "Exercise 4" in cell.source]
    assert "takes 180 seconds, and points take 17 seconds" in text
    assert "that 50 full masks" in text
    assert "<!--" not in text


def test_two_exercises_share_no_place():
    one = Exercise(1, 1, [], constants={"a": 1, "b": 2})
    assert constants({"one": one, "two": Exercise(2, 1, [], constants={"c": 3})}, "01") == {"a": 1, "b": 2, "c": 3}
    with pytest.raises(NotebookError, match="01: two exercises have a constant b"):
        constants({"one": one, "two": Exercise(2, 1, [], constants={"b": 2})}, "01")


@pytest.mark.parametrize("lesson", SOURCES)
def test_a_lesson_checks_its_own_exercises_in_their_order(lesson):
    cells = nbformat.read(SOLUTIONS / f"{lesson}.ipynb", 4).cells
    called = re.findall(r"(?m)^check\.(\w+)\(", "\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert called == [*SOURCES[lesson]]
    assert [exercise.number for exercise in SOURCES[lesson].values()] == [*range(1, len(called) + 1)]


def test_an_unknown_exercise_names_the_known_ones():
    with pytest.raises(AttributeError, match=r"no exercise is called 'dise'; there are background_at_border, .*dice"):
        check.dise(1)


@pytest.mark.parametrize("name", EXERCISES)
def test_untouched_exercises_are_open(name):
    assert getattr(check, name)(...).state == "open"


FUNCTIONS = [name for name, exercise in DEFINED if exercise.cases]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_left_open_fail_or_return_nothing(name):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    checked = getattr(check, name)
    assert checked(lambda *_: ...).state == "open"
    assert "returns None" in checked(lambda *_: None).message
    assert "stopped with ZeroDivisionError: division by zero" in checked(broken).message
    assert "a function is asked for, not int" in checked(3).message
    assert checked(lambda *_: "word").state == "wrong"


def test_a_pair_of_arrays_is_compared_part_by_part(monkeypatch):
    mistake = ("no sum", lambda x: (x, x), "sum the second")
    compare(monkeypatch, "pair", Exercise(1, lambda x: (x, x.sum(0)), [mistake], [(torch.eye(3),)]))
    assert check.pair(lambda x: (x, x.sum(0))).state == "passed"
    assert check.pair(lambda x: (x, x)).message == "sum the second"
    assert check.pair(lambda x: x).message == "case 1: not the arrays that were expected."


def test_an_answer_cannot_spoil_the_cases():
    def cheat(mask):
        mask[:] = False
        return mask

    assert check.background_at_border(cheat).state == "wrong"


ONE = """from course_lib.cli.exercises import Exercise


def third(draw):
    return Exercise(1, lambda x: x / 3, [("times", lambda x: x * 3, "divide")], [(1.0,)])
"""


def test_a_record_is_left_alone_when_it_differs_by_rounding(tmp_path):
    source, target = tmp_path / "09_thirds.py", tmp_path / "09_thirds.json"
    source.write_text(ONE, encoding="utf-8")
    text = recorded(source, target)
    assert '"right":[0.3333333]' in text
    target.write_text(text.replace("0.3333333", "0.3333334"), encoding="utf-8")
    assert "0.3333334" in recorded(source, target)
    target.write_text(text.replace("0.3333333", "0.33"), encoding="utf-8")
    assert recorded(source, target) == text


def test_answers_that_do_not_run_are_named(tmp_path):
    source = tmp_path / "09_thirds.py"
    source.write_text(ONE.replace("x / 3", "x / 0"), encoding="utf-8")
    with pytest.raises(NotebookError, match=r"09_thirds\.py: ZeroDivisionError"):
        recorded(source, tmp_path / "none.json")
