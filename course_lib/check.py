"""Self-checks of the exercises: passed, open, or a message that names the misconception.

A mistake is recognised by what it computes: each exercise lists wrong solutions with the advice they deserve, and an
answer that agrees with one of them on every case gets that advice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from skimage.measure import label

from course_lib import metrics


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


Mistakes = Sequence[tuple[Any, str]]
"""Wrong solutions, values or functions, each with the advice it deserves."""


def _report(exercise: str, state: str, message: str) -> Outcome:
    outcome = Outcome(exercise, state, message)
    print(outcome)
    return outcome


def _same(given: Any, expected: Any, atol: float = 1e-5) -> bool:
    try:
        a, b = np.asarray(given), np.asarray(expected)
        return a.shape == b.shape and bool(np.allclose(a.astype(float), b.astype(float), atol=atol, equal_nan=True))
    except (TypeError, ValueError, RuntimeError):
        return False


def _value(exercise: str, given: Any, expected: Any, mistakes: Mistakes) -> Outcome:
    if given is ...:
        return _report(exercise, "open", "replace the ... with your answer, then run this cell again.")
    if _same(given, expected, atol=1e-3):
        return _report(exercise, "passed", "right.")
    for wrong, advice in mistakes:
        if _same(given, wrong, atol=1e-3):
            return _report(exercise, "wrong", advice)
    return _report(exercise, "wrong", f"{given!r} is not it. Work one example by hand and compare each step.")


def _function(
    exercise: str,
    given: Any,
    reference: Callable[..., Any],
    cases: Sequence[tuple[Any, ...]],
    mistakes: Mistakes,
    atol: float = 1e-5,
) -> Outcome:
    same = partial(_same, atol=atol)
    if given is ...:
        return _report(exercise, "open", "write the function, then run this cell again.")
    if not callable(given):
        return _report(exercise, "wrong", f"a function is asked for, not {type(given).__name__}.")
    answers = []
    for case in cases:
        arguments = [x.copy() if isinstance(x, np.ndarray) else x.clone() if torch.is_tensor(x) else x for x in case]
        try:
            answers.append(given(*arguments))
        except Exception as error:  # noqa: BLE001 - whatever a student's code raises is the answer's, not ours
            return _report(exercise, "wrong", f"your function stopped with {type(error).__name__}: {error}")
    if all(answer is ... for answer in answers):
        return _report(exercise, "open", "replace the ... in the function, then run this cell again.")
    if any(answer is None for answer in answers):
        return _report(exercise, "wrong", "your function returns None: does every path end in a return?")
    expected = [reference(*case) for case in cases]
    if all(map(same, answers, expected)):
        return _report(exercise, "passed", f"right on all {len(cases)} cases.")
    for wrong, advice in mistakes:
        if all(map(same, answers, [wrong(*case) for case in cases])):
            return _report(exercise, "wrong", advice)
    worst = next(i for i, pair in enumerate(zip(answers, expected, strict=True)) if not same(*pair))
    wanted, got = np.asarray(expected[worst]), np.asarray(answers[worst])
    if wanted.shape != got.shape:
        return _report(exercise, "wrong", f"case {worst + 1}: shape {wanted.shape} expected, {got.shape} returned.")
    detail = f"{wanted} expected, {got} returned" if wanted.size <= 12 else "some of the values differ"
    return _report(exercise, "wrong", f"case {worst + 1}: {detail}.")


# Lesson 00 ------------------------------------------------------------------------------------------------------------


def batch_shape(given: Any) -> Outcome:
    """Lesson 00: the shape of a batch of 8 colour pictures, 96 pixels high and 128 wide."""
    mistakes = [
        (
            (8, 96, 128, 3),
            "that is channels-last, as NumPy and matplotlib keep pictures; PyTorch puts channels first.",
        ),
        ((8, 3, 128, 96), "height comes before width: rows first, then columns."),
        ((3, 96, 128), "that is one picture: a batch has one more dimension, in front."),
        ((3, 8, 96, 128), "the batch dimension comes first, then the channels."),
        ((8, 1, 96, 128), "a colour picture has three channels."),
    ]
    return _value(
        "Exercise 1",
        tuple(given) if isinstance(given, list | torch.Size) else given,
        (8, 3, 96, 128),
        mistakes,
    )


def normalise(given: Any) -> Outcome:
    """Lesson 00: uint8 `[3, H, W]` to float with mean 0 and standard deviation 1 in each channel."""

    def per_channel(image: torch.Tensor) -> torch.Tensor:
        pixels = image.double()
        return (pixels - pixels.mean((1, 2), keepdim=True)) / pixels.std((1, 2), keepdim=True, correction=0)

    def jointly(image: torch.Tensor) -> torch.Tensor:
        pixels = image.double()
        return (pixels - pixels.mean()) / pixels.std(correction=0)

    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1, 2, 3])[:, None, None]
    cases = [((torch.randint(0, 80, (3, 32, 40), generator=generator) * spread).to(torch.uint8),) for _ in range(3)]
    mistakes = [
        (
            jointly,
            "one mean for all three channels: take it per channel, over height and width (dim=(1, 2)).",
        ),
        (
            lambda x: x.double() / 255,
            "that scales to 0..1; also subtract the mean and divide by the deviation.",
        ),
        (
            lambda x: x.double() - x.double().mean((1, 2), keepdim=True),
            "now divide by the standard deviation too.",
        ),
        (
            lambda x: (
                (x.double() - x.double().mean((1, 2), keepdim=True))
                / x.double().var((1, 2), keepdim=True, correction=0)
            ),
            "you divided by the variance; the standard deviation is its square root.",
        ),
    ]
    # The tolerance admits a sample's deviation (correction=1) too: it is as good an answer.
    return _function("Exercise 2", given, per_channel, cases, mistakes, atol=5e-3)


def panoptic(given: Any) -> Outcome:
    """Lesson 00: class ids and instance ids into one id, class * 1000 + instance."""
    rng = np.random.default_rng(0)
    cases = [(rng.integers(0, 11, (6, 7)), rng.integers(0, 30, (6, 7))) for _ in range(3)]
    mistakes = [
        (lambda s, i: s + i, "car 2 and pole 8 would share the id 10: shift the class by 1000 first."),
        (lambda s, i: i * 1000 + s, "that is instance * 1000 + class: the class belongs in front."),
        (lambda s, i: s * 1000, "the instance is missing: two cars would be one."),
        (lambda s, i: s * i, "a product loses both: background times anything is 0."),
    ]
    return _function("Exercise 3", given, lambda s, i: s * 1000 + i, cases, mistakes)


# Lesson 01 ------------------------------------------------------------------------------------------------------------


def dice(given: Any) -> Outcome:
    """Lesson 01: the Dice coefficient of two boolean masks, 1 where both are empty."""
    rng = np.random.default_rng(0)
    cases = [(rng.random((8, 9)) < a, rng.random((8, 9)) < b) for a, b in ((0.5, 0.5), (0.2, 0.7), (0.9, 0.1))]
    empty = np.zeros((8, 9), bool)

    def reference(p: Any, t: Any) -> float:
        return 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else 1.0

    def iou(p: Any, t: Any) -> float:
        return (p & t).sum() / (p | t).sum() if (p | t).any() else 1.0

    with np.errstate(invalid="ignore", divide="ignore"):
        mistakes = [
            (iou, "that is the IoU: Dice divides by the sum of both areas, not by their union."),
            (
                lambda p, t: reference(p, t) / 2,
                "the intersection counts twice, once for each mask: Dice is 1 for equal masks.",
            ),
            (
                lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else np.nan,
                "two empty masks agree: return 1 there instead of dividing 0 by 0.",
            ),
            (
                lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()) if (p | t).any() else 0.0,
                "two empty masks agree: that deserves 1, not 0.",
            ),
            (lambda p, t: (p == t).mean(), "that is pixel accuracy, which rewards every background pixel."),
        ]
        return _function("Exercise 1", given, reference, [*cases, (empty, empty)], mistakes)


def background_at_border(given: Any) -> Outcome:
    """Lesson 01: the mask, or its inverse if more than half of its border pixels are foreground."""
    rng = np.random.default_rng(0)
    framed = [
        np.pad(rng.random((10, 12)) < inside, 1, constant_values=around) for inside, around in ((0.8, 0), (0.2, 1))
    ]
    cornered = np.zeros((6, 6), bool)  # 10 of 20 border pixels, but 13 of 24 when corners count twice
    cornered[5, :4] = cornered[:5, 0] = True
    cornered[5, 5] = True
    topped = np.zeros((6, 6), bool)
    topped[0] = True
    cases = [(rng.random((9, 13)) < share,) for share in (0.1, 0.9)] + [(mask,) for mask in (*framed, cornered, topped)]

    def share(mask: Any) -> float:
        inner = mask[1:-1, 1:-1]
        return (mask.sum() - inner.sum()) / (mask.size - inner.size)

    def edges(mask: Any) -> float:
        return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean()

    mistakes = [
        (lambda m: ~m if m.mean() > 0.5 else m, "that looks at the whole picture; only the border is to decide."),
        (lambda m: ~m, "you always invert: a mask whose border is mostly background is to stay."),
        (lambda m: m, "you never invert: turn the mask round when most of its border is foreground."),
        (lambda m: m if share(m) > 0.5 else ~m, "the other way round: the border is to end up as background."),
        (lambda m: ~m if m[0].mean() > 0.5 else m, "that is the first row only: the border has four sides."),
        (lambda m: ~m if edges(m) > 0.5 else m, "the corners counted twice, once for each of their sides."),
    ]
    return _function("Exercise 2", given, lambda m: ~m if share(m) > 0.5 else m, cases, mistakes)


def iou_from_dice(given: Any) -> Outcome:
    """Lesson 01: the IoU that belongs to a Dice coefficient of 0.8."""
    mistakes = [
        (0.8, "IoU and Dice agree only at 0 and 1."),
        (8 / 9, "that is the way from IoU to Dice; solve D = 2 J / (1 + J) for J."),
        (0.4, "halving is not it: solve D = 2 J / (1 + J) for J."),
    ]
    return _value("Exercise 3", given, 2 / 3, mistakes)


def remove_small(given: Any) -> Outcome:
    """Lesson 01: a label map without the instances of fewer than `min_area` pixels."""
    rng = np.random.default_rng(3)
    maps = [label(rng.random((24, 24)) < share) for share in (0.3, 0.4, 0.5)]

    def area(labels: Any) -> Any:
        return np.bincount(labels.ravel())[labels]

    mistakes = [
        (
            lambda m, a: np.where(area(m) > a, m, 0),
            "an instance of exactly min_area pixels stays: compare with >=.",
        ),
        (lambda m, a: np.where(area(m) < a, m, 0), "you kept the small ones and removed the rest."),
        (lambda m, a: (area(m) >= a) & (m > 0), "that is a mask: keep each instance's own number."),
        (lambda m, a: area(m) >= a, "that is a mask, and the background became foreground with it."),
    ]
    return _function("Exercise 4", given, lambda m, a: np.where(area(m) >= a, m, 0), [(m, 4) for m in maps], mistakes)


def score_at(given: Any) -> Outcome:
    """Lesson 01: TP / (TP + FP + FN) at one threshold, from the IoU of every prediction with every truth."""
    rng = np.random.default_rng(5)
    maps = [(label(rng.random((30, 30)) < 0.35), label(rng.random((30, 30)) < 0.35)) for _ in range(2)]
    truth = maps[0][1]
    shifted = np.roll(truth, 1, axis=1)
    exact = np.array([[0.5, 0.0], [0.0, 0.9], [0.0, 0.2]])  # the first pair lies exactly on the threshold
    cases = [(metrics.instance_iou(p, t), 0.3) for p, t in [*maps, (shifted, truth)]] + [(exact, 0.5)]

    def counts(overlaps: Any, threshold: float) -> tuple[int, int, int]:
        found = int((overlaps > threshold).sum())
        return found, overlaps.shape[0] - found, overlaps.shape[1] - found

    def reference(overlaps: Any, threshold: float) -> float:
        tp, fp, fn = counts(overlaps, threshold)
        return tp / (tp + fp + fn)

    def inclusive(overlaps: Any, threshold: float) -> float:
        return reference(overlaps, threshold - 1e-9)

    mistakes = [
        (
            lambda o, t: counts(o, t)[0] / o.shape[0],
            "that is precision: missed nuclei must count against you too.",
        ),
        (
            lambda o, t: counts(o, t)[0] / o.shape[1],
            "that is recall: false alarms must count against you too.",
        ),
        (
            lambda o, t: counts(o, t)[0] / sum(o.shape),
            "each hit is counted twice below: TP + FP + FN = N + M - TP.",
        ),
        (
            lambda o, t: 2 * counts(o, t)[0] / sum(o.shape),
            "that is F1; this score has TP + FP + FN below the line.",
        ),
        (inclusive, "an IoU equal to the threshold is not a hit: compare with >."),
    ]
    return _function("Exercise 5", given, reference, cases, mistakes)
