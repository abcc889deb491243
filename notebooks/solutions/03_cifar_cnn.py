"""The exercises of lesson 03: the right answers, and the wrong ones that get advice of their own."""

import random
from itertools import pairwise, product
from typing import Any

import torch

from course_lib.cli.exercises import Draw, Exercise


def output_size(draw: Draw) -> Exercise:
    """Rows of a feature map, from the picture's rows, kernel, stride and padding."""
    cases = [(32, 5, 1, 0), (32, 4, 2, 1), (33, 3, 2, 1), (7, 7, 4, 0), (28, 3, 3, 2), (10, 2, 3, 0)]
    if draw.cases:
        rng = random.Random(draw.seed(0))
        drawn = [
            case for case in product(range(9, 60), (2, 3, 5, 7), (1, 2, 3), (0, 1, 2)) if case not in cases
        ]
        even = [(h, k, s, p) for h, k, s, p in drawn if (h + 2 * p - k) % s == 0 and s > 1 and p > 1]
        uneven = [(h, k, s, p) for h, k, s, p in drawn if (h + 2 * p - k) % s == s - 1 > 0]
        shrunk = [(h, k, s, p) for h, k, s, p in drawn if k >= 2 * (p + s)]
        cases = [case for kind in (even, uneven, shrunk) for case in rng.sample(kind, 2)]
        cases.append((side := rng.randint(8, 20), side, rng.randint(2, 5), 0))  # the window fits once
    mistakes = [
        (
            "`H + p - k`",
            lambda h, k, s, p: (h + p - k) // s + 1,
            "zeros are added on both sides: 2 * padding.",
        ),
        (
            "No `+ 1`",
            lambda h, k, s, p: (h + 2 * p - k) // s,
            "the first place counts too: add 1 after the division.",
        ),
        (
            "`+ 1` before the division",
            lambda h, k, s, p: (h + 2 * p - k + 1) // s,
            "add the 1 after the division by the stride.",
        ),
        (
            "`/` instead of `//`",
            lambda h, k, s, p: (h + 2 * p - k) / s + 1,
            "the last step may not fit: divide with //, which rounds down.",
        ),
        (
            "Rounded up",
            lambda h, k, s, p: -(-(h + 2 * p - k) // s) + 1,
            "that rounds up: the window would stick out of the picture.",
        ),
        (
            "No padding",
            lambda h, k, s, p: (h - k) // s + 1,
            "the padding is missing: the window moves over H + 2p rows.",
        ),
        ("`H // s`", lambda h, k, s, p: h // s, "that holds only if the padding makes up for the kernel."),
    ]
    return Exercise(1, lambda h, k, s, p: (h + 2 * p - k) // s + 1, mistakes, cases)


def receptive_field(draw: Draw) -> Exercise:
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
    if draw.cases:
        layers, rng = [*product((1, 2, 3, 5, 7), (1, 2, 3))], random.Random(draw.seed(0))
        cases = [(rng.choices(layers, k=length),) for length in (3, 4, 6)]
        cases += [([(rng.randint(2, 9), rng.randint(2, 4)) for _ in range(3)],)]  # every stride matters
        cases += [([(rng.randint(2, 9), 1) for _ in range(3)],), ([],)]  # none does
    mistakes = [
        (
            "Strides ignored",
            lambda ls: field([(k, 1) for k, _ in ls]),
            "strides are missing: a later layer's steps count in pixels.",
        ),
        (
            "The layer's own stride applied first",
            lambda ls: field(ls, late=False),
            "a layer's own stride acts after it: enlarge the step last.",
        ),
        (
            r"$k \cdot j$ instead of $(k - 1) \cdot j$",
            lambda ls: 1 + field([(k + 1, s) for k, s in ls], 0),
            "a window of k pixels spans k - 1 steps.",
        ),
        (
            "Only the stride of the layer before counted",
            lambda ls: field([(k, 1) for k, _ in ls[:1]]) + last(ls),
            "strides multiply: j grows by each.",
        ),
        (
            "From 0 instead of 1",
            lambda ls: field(ls, first=0),
            "begin with 1: a value without any layer sees its own pixel.",
        ),
        (
            "Kernel times stride, summed",
            lambda ls: 1 + sum(k * s for k, s in ls),
            "use the recursion: r grows by (k - 1) j, then j by the stride.",
        ),
        (
            "Whole kernels summed",
            lambda ls: sum(k for k, _ in ls),
            "windows overlap: each adds (kernel - 1) steps, not the whole kernel.",
        ),
    ]
    return Exercise(2, field, mistakes, cases)


def cross_entropy(draw: Draw) -> Exercise:
    """Mean cross-entropy of logits `[B, C]` and labels `[B]`, safe for large logits."""
    loss, generator = torch.nn.functional.cross_entropy, torch.Generator().manual_seed(draw.seed(0))
    cases = [(3 * torch.randn(b, 5, generator=generator), torch.arange(b) % 5) for b in (4, 7)]
    large, labels = torch.tensor([[1000.0, 0.0, -1000.0], [0.0, 2.0, 0.0]]), torch.tensor([1, 1])
    if draw.cases:  # other sizes, and the classes in another order
        order = torch.randperm(3, generator=generator)
        large[0] *= torch.randint(11, 30, (1,), generator=generator) / 10
        large, labels = large[:, order], order.argsort()[labels]
    cases.append((large, labels))

    def naive(z: Any, y: Any) -> Any:
        return -(z.exp() / z.exp().sum(1, keepdim=True)).log()[torch.arange(len(y)), y].mean()

    mistakes = [
        (
            "`exp`, divide, `log`",
            naive,
            "right for small logits; large ones overflow, or leave log(0): use logsumexp, or log_softmax.",
        ),
        (
            "A sum over the batch",
            lambda z, y: loss(z, y, reduction="sum"),
            "that is the sum over the batch; the mean is asked for.",
        ),
        (
            "One loss a picture",
            lambda z, y: loss(z, y, reduction="none"),
            "that is one loss a picture; take their mean.",
        ),
        (
            "`z[:, labels]`",
            lambda z, y: (z.logsumexp(1) - z[:, y]).mean(),
            "z[:, labels] mixes pictures: index the rows as well.",
        ),
        (
            "Softmax over the batch",
            lambda z, y: -z.log_softmax(0)[torch.arange(len(y)), y].mean(),
            "the softmax runs over classes: dim 1, not 0.",
        ),
        (
            "The other sign",
            lambda z, y: -loss(z, y),
            "the sign: log-sum-exp minus the logit of the true class.",
        ),
        (
            "Softmax before the loss",
            lambda z, y: loss(z.softmax(1), y),
            "softmax is taken twice: the logits themselves go in.",
        ),
        (
            "Only the logit of the true class",
            lambda z, y: -z[torch.arange(len(y)), y].mean(),
            "the log-sum-exp over the classes is missing.",
        ),
        (
            "Only the log-sum-exp",
            lambda z, y: z.logsumexp(1).mean(),
            "the logit of the true class is missing.",
        ),
    ]
    return Exercise(3, loss, mistakes, cases)


def smooth(draw: Draw) -> Exercise:
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
    if draw.cases:
        rng = random.Random(draw.seed(0))
        sizes = [(c, 6) for c in rng.sample(range(3, 13), 3)] + [(2, 1)]
        eps = [rng.randint(5, 40) / 100 for _ in sizes]
        cases = [
            (torch.tensor(rng.choices(range(c), k=n)), c, e) for (c, n), e in zip(sizes, eps, strict=True)
        ]
    mistakes = [
        (
            r"True class $1 - \varepsilon$",
            lambda y, c, e: targets(y, c, e, true=1 - e),
            "the true class gets its share of eps too: rows must sum to 1.",
        ),
        (
            r"$\varepsilon / (C - 1)$ for each other",
            lambda y, c, e: targets(y, c, e, e / (c - 1), 1 - e),
            "eps is spread over all classes, the true one included.",
        ),
        (
            "`eps / (classes - 1)` for every class, the true one too",
            lambda y, c, e: targets(y, c, e, e / (c - 1), 1 - e + e / (c - 1)),
            "share eps by all classes, the true one included: eps / classes each; rows must sum to 1.",
        ),
        (
            r"$\varepsilon$ for each other, $1 - \varepsilon$ for the true class",
            lambda y, c, e: targets(y, c, e, e, 1 - e),
            "eps is to be shared: eps / classes for each.",
        ),
        (
            r"$\varepsilon$ for each other, 1 for the true class",
            lambda y, c, e: targets(y, c, e, e, 1.0),
            "eps is to be shared: eps / classes for each.",
        ),
        (
            r"True class $1 + \varepsilon / C$",
            lambda y, c, e: targets(y, c, e, true=1 + e / c),
            "take eps from the true class first: one_hot * (1 - eps).",
        ),
        (
            "One-hot, unchanged",
            lambda y, c, e: targets(y, c, 0.0),
            "that is one-hot: take eps from the true class and share it out.",
        ),
        (
            "True class 1",
            lambda y, c, e: targets(y, c, e, true=1.0),
            "the true class has to give up what the others get.",
        ),
    ]
    return Exercise(4, targets, mistakes, cases)
