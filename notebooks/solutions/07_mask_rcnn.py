"""The exercises of lesson 07: the right answers, and the wrong ones that get advice of their own."""

import random
from typing import Any

import torch

from course_lib.cli.exercises import Draw, Exercise


def _boxes(generator: torch.Generator, count: int) -> torch.Tensor:
    """Random boxes `[count, 4]` near each other, of sides of at least 2 pixels."""
    corner = 20 * torch.rand(count, 2, generator=generator)
    return torch.cat([corner, corner + 2 + 16 * torch.rand(count, 2, generator=generator)], 1)


def _moved(generator: torch.Generator, *lists: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Boxes enlarged and shifted, all by the same whole numbers, with x and y swapped."""
    scale = torch.randint(1, 4, (1,), generator=generator)
    shift = torch.randint(1, 30, (2,), generator=generator).repeat(2)
    return tuple((scale * boxes + shift)[:, [1, 0, 3, 2]] for boxes in lists)


def box_iou(draw: Draw) -> Exercise:
    """IoU of each box of one list with each of another."""

    def iou(
        a: Any,
        b: Any,
        clip: bool = True,
        both: bool = True,
        edge: float = 0,
        union: bool = True,
        hull: bool = False,
    ) -> Any:
        first, last = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
        sides = last - first + edge
        overlap = (sides.clip(min=0) if clip else sides).prod(2)
        areas = [(boxes[:, 2:] - boxes[:, :2] + edge).prod(1) for boxes in (a, b)]
        total = areas[0][:, None] + areas[1]
        if hull:
            around = torch.maximum(a[:, None, 2:], b[:, 2:]) - torch.minimum(a[:, None, :2], b[:, :2])
            return overlap / around.prod(2)
        return overlap / (total - overlap * union) if both else overlap

    near = torch.tensor([[0.0, 0, 4, 4], [10, 10, 20, 14]])
    cases = [
        (near, torch.tensor([[2.0, 0, 6, 4], [0, 0, 4, 4], [6, 0, 10, 4], [30, 30, 35, 40]])),
        (torch.tensor([[1.0, 2, 4, 8]]), torch.tensor([[0.0, 0, 2, 3], [1, 2, 4, 5], [3, 7, 9, 9]])),
    ]
    if draw.cases:
        generator = torch.Generator().manual_seed(draw.seed(0))
        cases = [_moved(generator, *case) for case in cases]
        cases.append((_boxes(generator, 4), _boxes(generator, 5)))
    mistakes = [
        (
            "No clipping",
            lambda a, b: iou(a, b, clip=False),
            "boxes that do not touch have negative sides, and two of them multiply to a positive area: "
            "clip each side at 0 first.",
        ),
        (
            "The sum of the areas below the line",
            lambda a, b: iou(a, b, union=False),
            "the overlap is counted twice below the line: subtract it once.",
        ),
        (
            "No division",
            lambda a, b: iou(a, b, both=False),
            "that is the overlap alone: divide by the union.",
        ),
        (
            "`+ 1` in each side",
            lambda a, b: iou(a, b, edge=1),
            "no + 1: the right edge lies behind the last pixel, so the width is right - left.",
        ),
        (
            "The product clipped",
            lambda a, b: iou(a, b, clip=False).clip(min=0),
            "boxes that do not touch have negative sides: clip each side at 0 before you multiply.",
        ),
        (
            "The box around both below the line",
            lambda a, b: iou(a, b, hull=True),
            "that is divided by the box around both: the union is area + area - overlap.",
        ),
        (
            "`[M, N]`",
            lambda a, b: iou(b, a),
            "transposed: a row for each box of a, a column for each box of b.",
        ),
        (
            "Twice the overlap over the sum of the areas",
            lambda a, b: 2 * iou(a, b) / (1 + iou(a, b)),
            "that is Dice: twice the overlap over the sum of the areas.",
        ),
    ]
    return Exercise(1, iou, mistakes, cases)


def encode(draw: Draw) -> Exercise:
    """What moves anchors onto boxes."""

    def deltas(anchors: Any, boxes: Any, centres: bool = True, scale: bool = True, log: bool = True) -> Any:
        size_a, size = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
        shift = boxes[:, :2] - anchors[:, :2] + (size - size_a) / 2 * centres
        ratio = size / size_a
        return torch.cat([shift / size_a if scale else shift, ratio.log() if log else ratio], 1)

    anchors = torch.tensor([[0.0, 0, 10, 20], [5, 5, 15, 9], [3, 4, 11, 12]])
    boxes = torch.tensor([[2.0, 1, 8, 31], [5, 5, 15, 9], [0, 2, 16, 10]])
    cases = [(anchors, boxes), (boxes[:2], anchors[:2])]
    if draw.cases:
        generator = torch.Generator().manual_seed(draw.seed(0))
        cases = [(_boxes(generator, count), _boxes(generator, count)) for count in (3, 6)]
        cases[0][1][0] = cases[0][0][0]  # nothing is to move
    mistakes = [
        (
            "Corners instead of centres",
            lambda a, b: deltas(a, b, centres=False),
            "x and y are those of the centres, not of the upper left corners.",
        ),
        (
            "Shifts in pixels",
            lambda a, b: deltas(a, b, scale=False),
            "the shift is in pixels: divide it by the anchor's width and height.",
        ),
        ("No `log`", lambda a, b: deltas(a, b, log=False), "the logarithm of the sizes' ratio is missing."),
        (
            "Anchor and box swapped",
            lambda a, b: deltas(b, a),
            "the other way round: from the anchor to the box, in units of the anchor.",
        ),
        (
            "Shifts with the wrong sign",
            lambda a, b: deltas(a, b) * torch.tensor([-1, -1, 1, 1]),
            "the shift is box minus anchor, not the other way round.",
        ),
        (
            "Logarithms with the wrong sign",
            lambda a, b: deltas(a, b) * torch.tensor([1, 1, -1, -1]),
            "log(box / anchor): a larger box is positive.",
        ),
        (
            "Shifts divided by the box's size",
            lambda a, b: torch.cat([-deltas(b, a)[:, :2], deltas(a, b)[:, 2:]], 1),
            "divide the shift by the anchor's size: in prediction, the box is not known yet.",
        ),
        (
            "`t_x, t_w, t_y, t_h`",
            lambda a, b: deltas(a, b)[:, [0, 2, 1, 3]],
            "the order is t_x, t_y, t_w, t_h.",
        ),
    ]
    return Exercise(2, deltas, mistakes, cases)


def nms(draw: Draw) -> Exercise:
    """Which boxes survive."""

    def iou(a: Any, b: Any) -> Any:
        sides = torch.minimum(a[2:], b[:, 2:]) - torch.maximum(a[:2], b[:, :2])
        overlap = sides.clip(min=0).prod(1)
        return overlap / ((a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(1) - overlap)

    def kept(boxes: Any, scores: Any, threshold: Any, strict: bool = False, best: bool = True) -> Any:
        left, found = scores.argsort(descending=best), []
        while len(left):
            found.append(left[0])
            overlaps = iou(boxes[left[0]], boxes[left[1:]])
            left = left[1:][overlaps < threshold if strict else overlaps <= threshold]
        return torch.stack(found)

    def once(boxes: Any, scores: Any, threshold: Any) -> Any:
        order = scores.argsort(descending=True)  # also those that are gone suppress others
        worse = [bool((iou(boxes[i], boxes[order[:n]]) > threshold).any()) for n, i in enumerate(order)]
        return order[~torch.tensor(worse)]

    def sorted_places(boxes: Any, scores: Any, threshold: Any) -> Any:
        order = scores.argsort(descending=True)
        return kept(boxes[order], scores[order], threshold)

    def doubles(boxes: Any, scores: Any, threshold: Any) -> Any:
        left, found = scores.argsort(descending=True), []
        while len(left):
            found.append(left[0])
            left = left[1:][iou(boxes[left[0]], boxes[left[1:]]) > threshold]
        return torch.stack(found)

    def close(boxes: Any, *thresholds: float) -> bool:
        """Whether the IoU of two boxes may round to the other side of a threshold."""
        overlaps = torch.stack([iou(box, boxes) for box in boxes])
        return any(bool(((overlaps - threshold).abs() < 1e-3).any()) for threshold in thresholds)

    generator, crowd = torch.Generator().manual_seed(draw.seed(0)), torch.zeros(0, 4)
    while not len(crowd) or close(crowd, 0.1, 0.3):
        corner = 20 * torch.rand(12, 2, generator=generator)
        crowd = torch.cat([corner, corner + 8 + 4 * torch.rand(12, 2, generator=generator)], 1)
    step, height = 3, 20
    if draw.cases:
        step, height = ((3, 20), (4, 40), (2, 16))[torch.randint(3, (), generator=generator)]
    # Neighbours in the chain are too close; the IoU of its first box and the last is exactly the threshold.
    chain = torch.tensor(
        [[0.0, 0, 10, 10], [step, 0, step + 10, 10], [2 * step, 0, 2 * step + 10, 10], [0, 0, 10, height]]
    )
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    if draw.cases:
        chain, scores = _moved(generator, chain)[0].flip(0), scores.flip(0)
    cases = [
        (chain, scores, 10 / height),
        (crowd, torch.rand(12, generator=generator), 0.3),
        (crowd[:5], torch.tensor([0.1, 0.5, 0.3, 0.9, 0.2]), 0.1),
    ]
    mistakes = [
        (
            "Without `descending=True`",
            lambda b, s, t: kept(b, s, t, best=False),
            "it begins with the worst: sort the scores in descending order.",
        ),
        (
            "`<` instead of `<=`",
            lambda b, s, t: kept(b, s, t, strict=True),
            "boxes of exactly the threshold both stay: <=, not <.",
        ),
        (
            "All pairs compared at once",
            once,
            "a box that is thrown away must not throw away others: compare only with boxes that are kept.",
        ),
        (
            "Places in the sorted list",
            sorted_places,
            "those are places in the sorted list: look up in it which boxes they are.",
        ),
        (
            "The doubles kept, the others thrown away",
            doubles,
            "you kept the doubles and threw away the others: keep those of an IoU <= threshold.",
        ),
        (
            "A mask",
            lambda b, s, t: torch.isin(torch.arange(len(b)), kept(b, s, t)),
            "that is a mask of true and false: return indices, best first.",
        ),
        (
            "Indices sorted by number",
            lambda b, s, t: kept(b, s, t).sort().values,
            "the indices are right; return them best first.",
        ),
        (
            "The boxes themselves",
            lambda b, s, t: b[kept(b, s, t)],
            "those are the boxes: return their indices.",
        ),
    ]
    return Exercise(3, kept, mistakes, cases)


def detector_labels(draw: Draw) -> Exercise:
    """Which objects to train on, and as what."""

    def right(ids: Any) -> Any:
        keep = (ids >= 0).nonzero()[:, 0]
        return keep, ids[keep] + 1

    mistakes = [
        (
            "`ids[keep]` as it is",
            lambda ids: ((ids >= 0).nonzero()[:, 0], ids[ids >= 0]),
            "class 0 is the background: each of your classes moves up by one.",
        ),
        (
            "`ids + 1` for all objects",
            lambda ids: (torch.arange(len(ids)), ids + 1),
            "-1 became 0, the background: objects that nobody labelled must be left out.",
        ),
        (
            "`ids > 0`",
            lambda ids: ((ids > 0).nonzero()[:, 0], ids[ids > 0]),
            "0 is a nucleus here, not the background: keep it, as class 1.",
        ),
        (
            "A mask instead of indices",
            lambda ids: (ids >= 0, ids[ids >= 0] + 1),
            "the labels are right; return indices, not a mask of true and false.",
        ),
        (
            "A column `[K, 1]`",
            lambda ids: ((ids >= 0).nonzero(), ids[ids >= 0] + 1),
            "nonzero() gives a column [K, 1]: take [:, 0].",
        ),
        (
            "The right indices, but labels of all objects",
            lambda ids: (right(ids)[0], ids + 1),
            "the indices are right; the labels must be those of the kept objects alone.",
        ),
        ("Labels first", lambda ids: right(ids)[::-1], "indices first, then labels."),
    ]
    cases = [(torch.tensor([0, -1, 1, 0, 1]),), (torch.tensor([-1, 0, -1, 1]),)]
    if draw.cases:
        rng = random.Random(draw.seed(0))
        lists = [[-1, 0, 0, 1, 1, *rng.choices((-1, 0, 1), k=more)] for more in (2, 4, 7)]
        cases = [(torch.tensor(rng.sample(ids, len(ids))),) for ids in lists]
    return Exercise(4, right, mistakes, cases)
