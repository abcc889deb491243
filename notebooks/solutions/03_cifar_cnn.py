"""The exercises of lesson 03: the right answers, and the wrong ones that get advice of their own."""

from itertools import pairwise
from typing import Any

import torch

from course_lib.cli.exercises import Exercise


def output_size() -> Exercise:
    """Rows of a feature map, from the picture's rows, kernel, stride and padding."""
    cases = [(32, 5, 1, 0), (32, 4, 2, 1), (33, 3, 2, 1), (7, 7, 4, 0), (28, 3, 3, 2), (10, 2, 3, 0)]
    mistakes = [
        (lambda h, k, s, p: (h + p - k) // s + 1, "zeros are added on both sides: 2 * padding."),
        (lambda h, k, s, p: (h + 2 * p - k) // s, "the first place counts too: add 1 after the division."),
        (lambda h, k, s, p: (h + 2 * p - k + 1) // s, "add the 1 after the division by the stride."),
        (
            lambda h, k, s, p: (h + 2 * p - k) / s + 1,
            "the last step may not fit: divide with //, which rounds down.",
        ),
        (
            lambda h, k, s, p: -(-(h + 2 * p - k) // s) + 1,
            "that rounds up: the window would stick out of the picture.",
        ),
        (lambda h, k, s, p: (h - k) // s + 1, "the padding is missing: the window moves over H + 2p rows."),
        (lambda h, k, s, p: h // s, "that holds only if the padding makes up for the kernel."),
    ]
    return Exercise(1, lambda h, k, s, p: (h + 2 * p - k) // s + 1, mistakes, cases)


def receptive_field() -> Exercise:
    """Pixels that one value sees after a list of layers, each (kernel, stride)."""

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
        (
            lambda ls: field([(k, 1) for k, _ in ls]),
            "strides are missing: a later layer's steps count in pixels.",
        ),
        (lambda ls: field(ls, late=False), "a layer's own stride acts after it: enlarge the step last."),
        (lambda ls: 1 + field([(k + 1, s) for k, s in ls], 0), "a window of k pixels spans k - 1 steps."),
        (lambda ls: field([(k, 1) for k, _ in ls[:1]]) + last(ls), "strides multiply: j grows by each."),
        (lambda ls: field(ls, first=0), "begin with 1: a value without any layer sees its own pixel."),
        (
            lambda ls: 1 + sum(k * s for k, s in ls),
            "use the recursion: r grows by (k - 1) j, then j by the stride.",
        ),
        (
            lambda ls: sum(k for k, _ in ls),
            "windows overlap: each adds (kernel - 1) steps, not the whole kernel.",
        ),
    ]
    return Exercise(2, field, mistakes, cases)


def cross_entropy() -> Exercise:
    """Mean cross-entropy of logits `[B, C]` and labels `[B]`, safe for large logits."""
    loss, generator = torch.nn.functional.cross_entropy, torch.Generator().manual_seed(0)
    cases = [(3 * torch.randn(b, 5, generator=generator), torch.arange(b) % 5) for b in (4, 7)]
    cases.append((torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 2.0, 0.0]]), torch.tensor([1, 1])))

    def naive(z: Any, y: Any) -> Any:
        return -(z.exp() / z.exp().sum(1, keepdim=True)).log()[torch.arange(len(y)), y].mean()

    mistakes = [
        (
            naive,
            "right for small logits; large ones overflow, or leave log(0): use logsumexp, or log_softmax.",
        ),
        (
            lambda z, y: loss(z, y, reduction="sum"),
            "that is the sum over the batch; the mean is asked for.",
        ),
        (lambda z, y: loss(z, y, reduction="none"), "that is one loss a picture; take their mean."),
        (
            lambda z, y: (z.logsumexp(1) - z[:, y]).mean(),
            "z[:, labels] mixes pictures: index the rows as well.",
        ),
        (
            lambda z, y: -z.log_softmax(0)[torch.arange(len(y)), y].mean(),
            "the softmax runs over classes: dim 1, not 0.",
        ),
        (lambda z, y: -loss(z, y), "the sign: log-sum-exp minus the logit of the true class."),
        (lambda z, y: loss(z.softmax(1), y), "softmax is taken twice: the logits themselves go in."),
        (lambda z, y: -z[torch.arange(len(y)), y].mean(), "the log-sum-exp over the classes is missing."),
        (lambda z, y: z.logsumexp(1).mean(), "the logit of the true class is missing."),
    ]
    return Exercise(3, loss, mistakes, cases)


def smooth() -> Exercise:
    """Targets `[B, classes]` of label smoothing."""

    def targets(
        labels: Any, classes: int, eps: float, other: float | None = None, true: float | None = None
    ) -> Any:
        hot = torch.nn.functional.one_hot(labels, classes)
        other = eps / classes if other is None else other
        return hot * ((1 - eps + eps / classes if true is None else true) - other) + other

    cases = [
        (torch.tensor([0, 2, 1]), 3, 0.1),
        (torch.tensor([3, 3]), 10, 0.2),
        (torch.tensor([1]), 2, 0.5),
    ]
    mistakes = [
        (
            lambda y, c, e: targets(y, c, e, true=1 - e),
            "the true class gets its share of eps too: rows must sum to 1.",
        ),
        (
            lambda y, c, e: targets(y, c, e, e / (c - 1), 1 - e),
            "eps is spread over all classes, the true one included.",
        ),
        (lambda y, c, e: targets(y, c, e, e, 1 - e), "eps is to be shared: eps / classes for each."),
        (lambda y, c, e: targets(y, c, e, e, 1.0), "eps is to be shared: eps / classes for each."),
        (
            lambda y, c, e: targets(y, c, e, true=1 + e / c),
            "take eps from the true class first: one_hot * (1 - eps).",
        ),
        (
            lambda y, c, e: targets(y, c, 0.0),
            "that is one-hot: take eps from the true class and share it out.",
        ),
        (lambda y, c, e: targets(y, c, e, true=1.0), "the true class has to give up what the others get."),
    ]
    return Exercise(4, targets, mistakes, cases)
