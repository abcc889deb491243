"""Self-checks of the exercises: passed, open, or a message that names the misconception.

A mistake is recognised by what it computes: each exercise lists wrong solutions, values or functions, with the advice
they deserve, and an answer that agrees with one of them on every case gets that advice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from skimage.measure import label
from skimage.segmentation import relabel_sequential

from course_lib import metrics

Mistakes = Sequence[tuple[Any, str]]


@dataclass(frozen=True)
class Outcome:
    """The result of a check: `state` is `"passed"`, `"open"` or `"wrong"`."""

    exercise: str
    state: str
    message: str

    def __str__(self) -> str:
        return f"[{self.state}] {self.exercise}: {self.message}"

    def _ipython_display_(self) -> None:
        """Nothing: the check has printed it already."""


def _report(exercise: str, state: str, message: str) -> Outcome:
    outcome = Outcome(exercise, state, message)
    print(outcome)
    return outcome


def _same(given: Any, expected: Any, atol: float) -> bool:
    try:
        a, b = np.asarray(given), np.asarray(expected)
        return a.shape == b.shape and bool(np.allclose(a.astype(float), b.astype(float), atol=atol, equal_nan=True))
    except (TypeError, ValueError, RuntimeError):
        return False


def _value(exercise: str, given: Any, expected: Any, mistakes: Mistakes) -> Outcome:
    if given is ...:
        return _report(exercise, "open", "replace the ... with your answer, then run this cell again.")
    if _same(given, expected, 5e-3):
        return _report(exercise, "passed", "right.")
    advice = next((advice for wrong, advice in mistakes if _same(given, wrong, 5e-3)), f"{given!r} is not it.")
    return _report(exercise, "wrong", advice)


def _function(
    exercise: str, given: Any, right: Callable[..., Any], cases: Sequence[tuple], mistakes: Mistakes, atol: float = 1e-5
) -> Outcome:
    if given is ...:
        return _report(exercise, "open", "write the function, then run this cell again.")
    if not callable(given):
        return _report(exercise, "wrong", f"a function is asked for, not {type(given).__name__}.")
    answers = []
    for case in cases:
        arguments = [x.copy() if isinstance(x, np.ndarray) else x.clone() if torch.is_tensor(x) else x for x in case]
        try:
            with np.errstate(all="ignore"):  # 0 / 0 is answered with advice below
                answers.append(given(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever a student's code raises is the answer's, not ours
            return _report(exercise, "wrong", f"your function stopped with {type(error).__name__}: {error}")
    if all(answer is ... for answer in answers):
        return _report(exercise, "open", "replace the ... in the function, then run this cell again.")
    if any(answer is None for answer in answers):
        return _report(exercise, "wrong", "your function returns None: does every path end in a return?")

    def agrees(other: Callable[..., Any]) -> list[bool]:
        with np.errstate(all="ignore"):  # a mistake may well divide by zero
            return [_same(answer, other(*case), atol) for answer, case in zip(answers, cases, strict=True)]

    if all(agrees(right)):
        return _report(exercise, "passed", f"right on all {len(cases)} cases.")
    undefined = [_same(answer, np.nan, atol) for answer in answers]  # 0 / 0 hides no other mistake
    for wrong, advice in mistakes:
        matches = agrees(wrong)
        if any(matches) and all(match or nan for match, nan in zip(matches, undefined, strict=True)):
            return _report(exercise, "wrong", advice)
    first = agrees(right).index(False)
    wanted, got = np.asarray(right(*cases[first])), np.asarray(answers[first])
    detail = "some of the values differ" if wanted.size > 12 else f"{wanted} expected, {got} returned"
    if wanted.shape != got.shape:
        detail = f"shape {wanted.shape} expected, {got.shape} returned"
    return _report(exercise, "wrong", f"case {first + 1}: {detail}.")


# --- lesson 00


def batch_shape(given: Any) -> Outcome:
    """Lesson 00: the shape of a batch of 8 colour pictures, 96 pixels high and 128 wide."""
    mistakes = [
        ((8, 96, 128, 3), "that is channels-last, as NumPy and matplotlib keep pictures; PyTorch puts channels first."),
        ((8, 3, 128, 96), "height comes before width: rows first, then columns."),
        ((8, 96, 128), "the three channels are missing."),
        ((3, 96, 128), "that is one picture: a batch has one more dimension, in front."),
        ((3, 8, 96, 128), "the batch dimension comes first, then the channels."),
        ((8, 1, 96, 128), "a colour picture has three channels."),
    ]
    return _value("Exercise 1", given, (8, 3, 96, 128), mistakes)


def normalise(given: Any) -> Outcome:
    """Lesson 00: uint8 `[3, H, W]` to float with mean 0 and standard deviation 1 in each channel."""

    def scaled(image: torch.Tensor, dim: tuple[int, ...] = (1, 2), power: float = 1) -> torch.Tensor:
        pixels = image.double()
        return (pixels - pixels.mean(dim, keepdim=True)) / pixels.std(dim, keepdim=True) ** power

    generator, spread = torch.Generator().manual_seed(0), torch.tensor([1, 2, 3])[:, None, None]
    cases = [((torch.randint(0, 80, (3, 32, 40), generator=generator) * spread).to(torch.uint8),) for _ in range(3)]
    mistakes = [
        (lambda x: scaled(x, (0, 1, 2)), "one mean for all channels: take it per channel, over dim=(1, 2)."),
        (lambda x: x.double() / 255, "that scales to 0..1; also subtract the mean and divide by the deviation."),
        (lambda x: scaled(x, power=0), "now divide by the standard deviation too."),
        (lambda x: scaled(x, power=0) / x.double().std(), "one deviation for all channels: take it per channel too."),
        (
            lambda x: x - x.double().mean((1, 2), True) / x.double().std((1, 2), keepdim=True),
            "subtract first: (x - mean) / std.",
        ),
        (lambda x: scaled(x, power=2), "you divided by the variance; the standard deviation is its square root."),
    ]
    # The tolerance admits both ways to count: dividing by n or by n - 1.
    return _function("Exercise 2", given, scaled, cases, mistakes, atol=5e-3)


def panoptic(given: Any) -> Outcome:
    """Lesson 00: class ids and instance ids into one id, class * 1000 + instance."""
    rng = np.random.default_rng(0)
    cases = [(rng.integers(0, 11, (6, 7)), rng.integers(0, 30, (6, 7))) for _ in range(3)]
    mistakes = [
        (lambda s, i: s + i, "car 2 and pole 8 would share the id 10: shift the class by 1000 first."),
        (lambda s, i: i * 1000 + s, "that is instance * 1000 + class: the class belongs in front."),
        (lambda s, i: 1000 * (s + i), "only the class is shifted by 1000; the instance is added as it is."),
        (lambda s, i: s * 1000, "the instance is missing: two cars would be one."),
        (lambda s, i: s * i, "a product loses both: background times anything is 0."),
    ]
    return _function("Exercise 3", given, lambda s, i: s * 1000 + i, cases, mistakes)


# --- lesson 01


def dice(given: Any) -> Outcome:
    """Lesson 01: the Dice coefficient of two boolean masks, 1 where both are empty."""

    def score(p: Any, t: Any, empty: float = 1.0) -> float:
        return 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else empty

    def iou(p: Any, t: Any) -> float:
        return (p & t).sum() / (p | t).sum() if (p | t).any() else 1.0

    rng = np.random.default_rng(0)
    shares = ((0.5, 0.5), (0.2, 0.7), (0.9, 0.1), (0, 0))
    cases = [(rng.random((8, 9)) < a, rng.random((8, 9)) < b) for a, b in shares]
    mistakes = [
        (iou, "that is the IoU: Dice divides by the sum of both areas, not by their union."),
        (lambda p, t: score(p, t, 2) / 2, "the intersection counts twice, once for each mask: equal masks score 1."),
        (lambda p, t: 2 * iou(p, t) if (p | t).any() else 1.0, "+ of two masks means *or*: sum each mask first."),
        (lambda p, t: score(p, t, np.nan), "two empty masks agree: return 1 there instead of dividing 0 by 0."),
        (lambda p, t: score(p, t, 0.0), "two empty masks agree: that deserves 1, not 0."),
        (lambda p, t: (p == t).mean(), "that is pixel accuracy, which rewards every background pixel."),
    ]
    return _function("Exercise 1", given, score, cases, mistakes)


def background_at_border(given: Any) -> Outcome:
    """Lesson 01: the mask, or its inverse if more than half of its border pixels are foreground."""

    def share(mask: Any) -> float:
        inner = mask[1:-1, 1:-1]
        return (mask.sum() - inner.sum()) / (mask.size - inner.size)

    def edges(mask: Any) -> float:
        return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()

    rng = np.random.default_rng(0)
    masks = [rng.random((9, 13)) < density for density in (0.1, 0.9)]
    masks += [np.pad(rng.random((10, 12)) < inside, 1, constant_values=1 - round(inside)) for inside in (0.8, 0.2)]
    cornered, half, topped, corners = np.zeros((4, 6, 6), bool)
    cornered[5, :4] = cornered[:5, 0] = cornered[5, 5] = True  # 10 of 20 pixels; 13 of 24 when corners count twice
    half[0, 1:5] = half[1:5, 0] = half[5, 1:3] = True  # 10 of 20, none of them a corner
    topped[0] = True
    corners[::5, ::5] = True
    beside = np.zeros((6, 14), bool)
    beside[:, ::13] = True
    masks += [cornered, half, topped, corners, beside, beside.T]
    mistakes = [
        (lambda m: ~m if m.mean() > 0.5 else m, "that looks at the whole picture; only the border is to decide."),
        (lambda m: ~m, "you always invert: a mask whose border is mostly background is to stay."),
        (lambda m: m, "you never invert: turn the mask round when most of its border is foreground."),
        (lambda m: m if share(m) > 0.5 else ~m, "the other way round: the border is to end up as background."),
        (lambda m: ~m if m[0].mean() > 0.5 else m, "that is the first row only: the border has four sides."),
        (lambda m: ~m if m[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.5 else m, "those are only the corners."),
        (lambda m: ~m if m[[0, -1]].mean() > 0.5 else m, "two sides only: the border has four."),
        (lambda m: ~m if m[:, [0, -1]].mean() > 0.5 else m, "two sides only: the border has four."),
        (
            lambda m: ~m if share(m) >= 0.5 else m,
            "a mask with exactly half of its border set is to stay: compare with >.",
        ),
        (lambda m: ~m if edges(m) > 0.5 else m, "the corners counted twice, once for each of their sides."),
    ]
    cases = [(mask,) for mask in masks]
    return _function("Exercise 2", given, lambda m: ~m if share(m) > 0.5 else m, cases, mistakes)


def iou_from_dice(given: Any) -> Outcome:
    """Lesson 01: the IoU that belongs to a Dice coefficient of 0.8."""
    mistakes = [
        (0.8, "IoU and Dice agree only at 0 and 1."),
        (8 / 9, "that is the way from IoU to Dice; solve D = 2 J / (1 + J) for J."),
        (0.4, "halving is not it: solve D = 2 J / (1 + J) for J."),
        (4 / 9, "check your algebra: J (2 - D) = D."),
        (2 / 7, "check your algebra: J (2 - D) = D."),
    ]
    return _value("Exercise 3", given, 2 / 3, mistakes)


def remove_small(given: Any) -> Outcome:
    """Lesson 01: a label map without the instances of fewer than `min_area` pixels."""

    def area(labels: Any) -> Any:
        return np.bincount(labels.ravel())[labels]

    rng = np.random.default_rng(3)
    cases = [(label(rng.random((24, 24)) < density), 4) for density in (0.3, 0.4, 0.5)]
    mistakes = [
        (lambda m, a: np.where(area(m) > a, m, 0), "an instance of exactly min_area pixels stays: compare with >=."),
        (lambda m, a: np.where(area(m) < a, m, 0), "you kept the small ones and removed the rest."),
        (lambda m, a: (area(m) >= a) & (m > 0), "that is a mask: keep each instance's own number."),
        (lambda m, a: np.where(m >= a, m, 0), "that compares the numbers of the instances, not their areas."),
        (
            lambda m, a: relabel_sequential(np.where(area(m) >= a, m, 0))[0],
            "you numbered them anew: keep the old numbers.",
        ),
        (lambda m, a: area(m) >= a, "that is a mask, and the background became foreground with it."),
    ]
    return _function("Exercise 4", given, lambda m, a: np.where(area(m) >= a, m, 0), cases, mistakes)


def score_at(given: Any) -> Outcome:
    """Lesson 01: TP / (TP + FP + FN) at one threshold, from the IoU of every prediction with every truth."""

    def hits(overlaps: Any, limit: float) -> int:
        return int((overlaps > limit).sum())

    def score(o: Any, t: float) -> float:
        return hits(o, t) / (sum(o.shape) - hits(o, t))

    rng = np.random.default_rng(5)
    first, second, truth = (label(rng.random((30, 30)) < 0.35) for _ in range(3))
    cases = [(metrics.instance_iou(p, truth), 0.3) for p in (first, second, np.roll(truth, 1, axis=1))]
    cases.append((np.array([[0.5, 0.0], [0.0, 0.9], [0.0, 0.2]]), 0.5))  # the first pair lies exactly on the limit
    mistakes = [
        (lambda o, t: hits(o, t) / o.shape[0], "that is precision: missed nuclei must count against you too."),
        (lambda o, t: hits(o, t) / o.shape[1], "that is recall: false alarms must count against you too."),
        (lambda o, t: hits(o, t) / sum(o.shape), "each hit is counted twice below: TP + FP + FN = N + M - TP."),
        (lambda o, t: 2 * hits(o, t) / sum(o.shape), "that is F1; this score has TP + FP + FN below the line."),
        (lambda o, t: score(o, t - 1e-9), "an IoU equal to the threshold is not a hit: compare with >."),
    ]
    return _function("Exercise 5", given, score, cases, mistakes)


# --- lesson 03


def output_size(given: Any) -> Outcome:
    """Lesson 03: rows of a feature map, from the picture's rows, kernel, stride and padding."""
    cases = [(32, 5, 1, 0), (32, 4, 2, 1), (33, 3, 2, 1), (7, 7, 4, 0), (28, 3, 3, 2), (10, 2, 3, 0)]
    mistakes = [
        (lambda h, k, s, p: (h + p - k) // s + 1, "zeros are added on both sides: 2 * padding."),
        (lambda h, k, s, p: (h + 2 * p - k) // s, "the first place counts too: add 1 after the division."),
        (lambda h, k, s, p: (h + 2 * p - k + 1) // s, "add the 1 after the division by the stride."),
        (lambda h, k, s, p: (h + 2 * p - k) / s + 1, "the last step may not fit: divide with //, which rounds down."),
        (lambda h, k, s, p: -(-(h + 2 * p - k) // s) + 1, "that rounds up: the window would stick out of the picture."),
        (lambda h, k, s, p: (h - k) // s + 1, "the padding is missing: the window moves over H + 2p rows."),
        (lambda h, k, s, p: h // s, "that holds only if the padding makes up for the kernel."),
    ]
    return _function("Exercise 1", given, lambda h, k, s, p: (h + 2 * p - k) // s + 1, cases, mistakes)


def receptive_field(given: Any) -> Outcome:
    """Lesson 03: pixels that one value sees after a list of layers, each (kernel, stride)."""

    def field(layers: Any, first: int = 1, late: bool = True) -> int:
        seen, step = first, 1
        for kernel, stride in layers:
            step *= 1 if late else stride
            seen += (kernel - 1) * step
            step *= stride if late else 1
        return seen

    def last(layers: Any) -> int:
        return sum((kernel - 1) * stride for (_, stride), (kernel, _) in pairwise(layers))

    classic = [(5, 1), (2, 2), (5, 1), (2, 2)]
    cases = [([(3, 1)] * 2,), (classic,), ([(4, 2), (3, 1), (2, 2), (3, 1)],), ([(7, 2), (3, 2)],), ([],)]
    mistakes = [
        (lambda ls: field([(k, 1) for k, _ in ls]), "strides are missing: a later layer's steps count in pixels."),
        (lambda ls: field(ls, late=False), "a layer's own stride acts after it: enlarge the step last."),
        (lambda ls: 1 + field([(k + 1, s) for k, s in ls], 0), "a window of k pixels spans k - 1 steps."),
        (lambda ls: field([(k, 1) for k, _ in ls[:1]]) + last(ls), "strides multiply: j grows by each."),
        (lambda ls: field(ls, first=0), "begin with 1: a value without any layer sees its own pixel."),
        (lambda ls: 1 + sum(k * s for k, s in ls), "use the recursion: r grows by (k - 1) j, then j by the stride."),
        (lambda ls: sum(k for k, _ in ls), "windows overlap: each adds (kernel - 1) steps, not the whole kernel."),
    ]
    return _function("Exercise 2", given, field, cases, mistakes)


def cross_entropy(given: Any) -> Outcome:
    """Lesson 03: mean cross-entropy of logits `[B, C]` and labels `[B]`, safe for large logits."""
    loss, generator = torch.nn.functional.cross_entropy, torch.Generator().manual_seed(0)
    cases = [(3 * torch.randn(b, 5, generator=generator), torch.arange(b) % 5) for b in (4, 7)]
    cases.append((torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 2.0, 0.0]]), torch.tensor([1, 1])))

    def naive(z: Any, y: Any) -> Any:
        return -(z.exp() / z.exp().sum(1, keepdim=True)).log()[torch.arange(len(y)), y].mean()

    mistakes = [
        (naive, "right for small logits; large ones overflow, or leave log(0): use logsumexp, or log_softmax."),
        (lambda z, y: loss(z, y, reduction="sum"), "that is the sum over the batch; the mean is asked for."),
        (lambda z, y: loss(z, y, reduction="none"), "that is one loss a picture; take their mean."),
        (lambda z, y: (z.logsumexp(1) - z[:, y]).mean(), "z[:, labels] mixes pictures: index the rows as well."),
        (
            lambda z, y: -z.log_softmax(0)[torch.arange(len(y)), y].mean(),
            "the softmax runs over classes: dim 1, not 0.",
        ),
        (lambda z, y: -loss(z, y), "the sign: log-sum-exp minus the logit of the true class."),
        (lambda z, y: loss(z.softmax(1), y), "softmax is taken twice: the logits themselves go in."),
        (lambda z, y: -z[torch.arange(len(y)), y].mean(), "the log-sum-exp over the classes is missing."),
        (lambda z, y: z.logsumexp(1).mean(), "the logit of the true class is missing."),
    ]
    return _function("Exercise 3", given, loss, cases, mistakes)


def smooth(given: Any) -> Outcome:
    """Lesson 03: targets `[B, classes]` of label smoothing."""

    def targets(labels: Any, classes: int, eps: float, other: float | None = None, true: float | None = None) -> Any:
        hot = torch.nn.functional.one_hot(labels, classes)
        other = eps / classes if other is None else other
        return hot * ((1 - eps + eps / classes if true is None else true) - other) + other

    cases = [(torch.tensor([0, 2, 1]), 3, 0.1), (torch.tensor([3, 3]), 10, 0.2), (torch.tensor([1]), 2, 0.5)]
    mistakes = [
        (lambda y, c, e: targets(y, c, e, true=1 - e), "the true class gets its share of eps too: rows must sum to 1."),
        (
            lambda y, c, e: targets(y, c, e, e / (c - 1), 1 - e),
            "eps is spread over all classes, the true one included.",
        ),
        (lambda y, c, e: targets(y, c, e, e, 1 - e), "eps is to be shared: eps / classes for each."),
        (lambda y, c, e: targets(y, c, e, e, 1.0), "eps is to be shared: eps / classes for each."),
        (lambda y, c, e: targets(y, c, e, true=1 + e / c), "take eps from the true class first: one_hot * (1 - eps)."),
        (lambda y, c, e: targets(y, c, 0.0), "that is one-hot: take eps from the true class and share it out."),
        (lambda y, c, e: targets(y, c, e, true=1.0), "the true class has to give up what the others get."),
    ]
    return _function("Exercise 4", given, targets, cases, mistakes)
