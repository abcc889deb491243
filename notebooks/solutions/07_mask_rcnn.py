"""The exercises of lesson 07: the right answers, and the wrong ones that get advice of their own."""

from typing import Any

import torch

from course_lib.cli.exercises import Exercise


def box_iou() -> Exercise:
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
    mistakes = [
        (
            lambda a, b: iou(a, b, clip=False),
            "boxes that do not touch have negative sides, and two of them multiply to a positive area: "
            "clip each side at 0 first.",
        ),
        (
            lambda a, b: iou(a, b, union=False),
            "the overlap is counted twice below the line: subtract it once.",
        ),
        (lambda a, b: iou(a, b, both=False), "that is the overlap alone: divide by the union."),
        (
            lambda a, b: iou(a, b, edge=1),
            "no + 1: the right edge lies behind the last pixel, so the width is right - left.",
        ),
        (
            lambda a, b: iou(a, b, clip=False).clip(min=0),
            "boxes that do not touch have negative sides: clip each side at 0 before you multiply.",
        ),
        (
            lambda a, b: iou(a, b, hull=True),
            "that is divided by the box around both: the union is area + area - overlap.",
        ),
        (lambda a, b: iou(b, a), "transposed: a row for each box of a, a column for each box of b."),
        (
            lambda a, b: 2 * iou(a, b) / (1 + iou(a, b)),
            "that is Dice: twice the overlap over the sum of the areas.",
        ),
    ]
    return Exercise(1, iou, mistakes, cases)


def encode() -> Exercise:
    """What moves anchors onto boxes."""

    def deltas(anchors: Any, boxes: Any, centres: bool = True, scale: bool = True, log: bool = True) -> Any:
        size_a, size = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
        shift = boxes[:, :2] - anchors[:, :2] + (size - size_a) / 2 * centres
        ratio = size / size_a
        return torch.cat([shift / size_a if scale else shift, ratio.log() if log else ratio], 1)

    anchors = torch.tensor([[0.0, 0, 10, 20], [5, 5, 15, 9], [3, 4, 11, 12]])
    boxes = torch.tensor([[2.0, 1, 8, 31], [5, 5, 15, 9], [0, 2, 16, 10]])
    mistakes = [
        (
            lambda a, b: deltas(a, b, centres=False),
            "x and y are those of the centres, not of the upper left corners.",
        ),
        (
            lambda a, b: deltas(a, b, scale=False),
            "the shift is in pixels: divide it by the anchor's width and height.",
        ),
        (lambda a, b: deltas(a, b, log=False), "the logarithm of the sizes' ratio is missing."),
        (
            lambda a, b: deltas(b, a),
            "the other way round: from the anchor to the box, in units of the anchor.",
        ),
        (
            lambda a, b: deltas(a, b) * torch.tensor([-1, -1, 1, 1]),
            "the shift is box minus anchor, not the other way round.",
        ),
        (
            lambda a, b: deltas(a, b) * torch.tensor([1, 1, -1, -1]),
            "log(box / anchor): a larger box is positive.",
        ),
        (
            lambda a, b: torch.cat([-deltas(b, a)[:, :2], deltas(a, b)[:, 2:]], 1),
            "divide the shift by the anchor's size: in prediction, the box is not known yet.",
        ),
        (
            lambda a, b: deltas(a, b)[:, [0, 2, 1, 3]],
            "the order is t_x, t_y, t_w, t_h.",
        ),
    ]
    return Exercise(2, deltas, mistakes, [(anchors, boxes), (boxes[:2], anchors[:2])])


def nms() -> Exercise:
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

    generator = torch.Generator().manual_seed(0)
    corner = 20 * torch.rand(12, 2, generator=generator)
    crowd = torch.cat([corner, corner + 8 + 4 * torch.rand(12, 2, generator=generator)], 1)
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10], [0, 0, 10, 20]])
    cases = [
        (chain, torch.tensor([0.9, 0.8, 0.7, 0.6]), 0.5),
        (crowd, torch.rand(12, generator=generator), 0.3),
        (crowd[:5], torch.tensor([0.1, 0.5, 0.3, 0.9, 0.2]), 0.1),
    ]
    mistakes = [
        (
            lambda b, s, t: kept(b, s, t, best=False),
            "it begins with the worst: sort the scores in descending order.",
        ),
        (
            lambda b, s, t: kept(b, s, t, strict=True),
            "boxes of exactly the threshold both stay: <=, not <.",
        ),
        (
            once,
            "a box that is thrown away must not throw away others: compare only with boxes that are kept.",
        ),
        (
            sorted_places,
            "those are places in the sorted list: look up in it which boxes they are.",
        ),
        (doubles, "you kept the doubles and threw away the others: keep those of an IoU <= threshold."),
        (
            lambda b, s, t: torch.isin(torch.arange(len(b)), kept(b, s, t)),
            "that is a mask of true and false: return indices, best first.",
        ),
        (lambda b, s, t: kept(b, s, t).sort().values, "the indices are right; return them best first."),
        (lambda b, s, t: b[kept(b, s, t)], "those are the boxes: return their indices."),
    ]
    return Exercise(3, kept, mistakes, cases)


def detector_labels() -> Exercise:
    """Which objects to train on, and as what."""

    def right(ids: Any) -> Any:
        keep = (ids >= 0).nonzero()[:, 0]
        return keep, ids[keep] + 1

    mistakes = [
        (
            lambda ids: ((ids >= 0).nonzero()[:, 0], ids[ids >= 0]),
            "class 0 is the background: each of your classes moves up by one.",
        ),
        (
            lambda ids: (torch.arange(len(ids)), ids + 1),
            "-1 became 0, the background: objects that nobody labelled must be left out.",
        ),
        (
            lambda ids: ((ids > 0).nonzero()[:, 0], ids[ids > 0]),
            "0 is a nucleus here, not the background: keep it, as class 1.",
        ),
        (
            lambda ids: (ids >= 0, ids[ids >= 0] + 1),
            "the labels are right; return indices, not a mask of true and false.",
        ),
        (
            lambda ids: ((ids >= 0).nonzero(), ids[ids >= 0] + 1),
            "nonzero() gives a column [K, 1]: take [:, 0].",
        ),
        (
            lambda ids: (right(ids)[0], ids + 1),
            "the indices are right; the labels must be those of the kept objects alone.",
        ),
        (lambda ids: right(ids)[::-1], "indices first, then labels."),
    ]
    return Exercise(
        4, right, mistakes, [(torch.tensor([0, -1, 1, 0, 1]),), (torch.tensor([-1, 0, -1, 1]),)]
    )
