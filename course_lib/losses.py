"""Losses of semantic segmentation, which lesson 05 builds and compares; of adversaries, which lesson 06 builds.

Those of masks take logits float `[B, C, H, W]` and class ids int64 `[B, H, W]`, leave out void pixels (255), and return
a scalar: 0, with gradients of 0, where every pixel is void (PyTorch's is NaN). InputError: shapes or ids do not fit.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from course_lib.errors import InputError
from course_lib.metrics import ADVICE, IGNORE


def cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Minus the logarithm of the true class's probability, averaged over the pixels: >= 0.

    `weight` of each class, `[C]`: the mean is divided by the sum of the pixels' weights. The usual one is the median of
    the classes' frequencies divided by each: the rarer a class, the more its pixels count (Eigen and Fergus, 2015).
    """
    _check(logits, target)
    logits, valid = logits.float(), target != IGNORE  # half precision cannot count a picture's pixels
    weight = None if weight is None else weight.to(logits)
    total = F.cross_entropy(logits, target, weight, ignore_index=IGNORE, reduction="sum")
    counted = valid if weight is None else weight[target * valid] * valid
    return total / counted.sum(dtype=torch.float32).clip(min=1e-12)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times (1 - p)^gamma, p the true class's probability: easy pixels hardly count; >= 0.

    Lin et al.: Focal loss for dense object detection, 2017; here with a softmax over all classes.
    """
    _check(logits, target)
    each = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="none")  # 0 where void
    hard = (1 - (-each).exp()).clip(min=1e-12) ** gamma  # a power below 1 has no slope at 0
    return (hard * each).sum() / (target != IGNORE).sum().clip(min=1)


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """1 - the Dice coefficient, with probabilities for the prediction; averaged over the classes in `target`: 0 to 1.

    Drozdzal et al.: The importance of skip connections in biomedical image segmentation, 2016 (V-Net, of the same year,
    sums squares). Sums run over the whole batch, so that a class that one picture lacks does no harm.
    """
    probabilities, truth = pairs(logits, target)
    both, sizes = (probabilities * truth).sum((0, 2, 3)), (probabilities + truth).sum((0, 2, 3))
    present = truth.sum((0, 2, 3)) > 0
    return ((1 - 2 * both / sizes.clip(min=1e-6)) * present).sum() / present.sum().clip(min=1)


def l1(logits: Tensor, target: Tensor) -> Tensor:
    """Manhattan distance of probabilities to the one-hot truth, averaged over pixels and classes: 0 to 1."""
    probabilities, truth = pairs(logits, target)
    return (probabilities - truth).abs().sum() / (truth.sum() * truth.shape[1]).clip(min=1)


def l2(logits: Tensor, target: Tensor) -> Tensor:
    """Squared distance of probabilities to the one-hot truth (Brier, 1950), averaged as in `l1`: 0 to 1."""
    probabilities, truth = pairs(logits, target)
    return ((probabilities - truth) ** 2).sum() / (truth.sum() * truth.shape[1]).clip(min=1)


ADVERSARIAL: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {  # on true, on made samples; the generator's
    "non_saturating": (lambda real: F.softplus(-real), F.softplus, lambda fake: F.softplus(-fake)),
    "least_squares": (lambda real: (real - 1) ** 2, torch.square, lambda fake: (fake - 1) ** 2),
    "hinge": (lambda real: F.relu(1 - real), lambda fake: F.relu(1 + fake), torch.neg),
}


def discriminator(real: Tensor, fake: Tensor, kind: str = "non_saturating") -> Tensor:
    """What a discriminator minimises, given its logits, of any shape, of true and of made samples: its mean loss, >= 0.

    `kind`: `"non_saturating"`, cross-entropy (Goodfellow et al., 2014); `"least_squares"`, distance to 1 and to 0
    (Mao et al., 2017); `"hinge"`, what is missing to 1 and to -1 (Lim and Ye, 2017); another raises InputError.
    """
    on_real, on_fake, _ = _adversarial(kind)
    return (on_real(real.float()).mean() + on_fake(fake.float()).mean()) / 2


def generator(fake: Tensor, kind: str = "non_saturating") -> Tensor:
    """What a generator minimises, given the discriminator's logits of what it made; `kind` as in `discriminator`."""
    return _adversarial(kind)[2](fake.float()).mean()


def _adversarial(kind: str) -> tuple[Callable[[Tensor], Tensor], ...]:
    if kind not in ADVERSARIAL:
        raise InputError(f"kind = {kind!r} is not known", f"choose one of {', '.join(ADVERSARIAL)}")
    return ADVERSARIAL[kind]


def _check(logits: Tensor, target: Tensor) -> None:
    if logits.ndim != 4 or target.shape != (len(logits), *logits.shape[2:]):
        shapes = f"logits {tuple(logits.shape)} and target {tuple(target.shape)}"
        raise InputError(f"{shapes} do not fit", "give logits [B, C, H, W] and class ids [B, H, W]")
    if target.dtype != torch.int64 or logits.shape[1] < 2:
        given = f"{logits.shape[1]} channels of logits and a target of {target.dtype}"
        raise InputError(f"{given} do not fit", "give a channel for each class, background too, and int64 ids")
    if target.device.type == "cpu" and target.numel():  # on a GPU, looking would make it wait at every step
        low, high = int(target.min()), int((target * (target != IGNORE)).max())
        if low < 0 or high >= logits.shape[1]:
            raise InputError(f"the target holds ids from {low} to {high}, outside 0..{logits.shape[1] - 1}", ADVICE)


def pairs(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and one-hot truth, both float32 `[B, C, H, W]` and 0 at void pixels. InputError: as above."""
    _check(logits, target)
    valid = (target != IGNORE)[:, None]
    truth = F.one_hot(target * valid[:, 0], logits.shape[1]).movedim(-1, 1)
    return logits.softmax(1, dtype=torch.float32) * valid, (truth * valid).float()
