"""A discriminator, and the step that trains it and a generator in turn; lesson 06 builds them."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from course_lib import losses

Make = Callable[[nn.Module, Any], tuple[Tensor, Tensor, Tensor]]


class PatchDiscriminator(nn.Sequential):
    """Judges samples `[B, inputs, H, W]` patch by patch: logits `[B, 1, H / 8, W / 8]`, above 0 where one looks true.

    Isola et al.: Image-to-image translation with conditional adversarial networks, 2017. Spectral normalisation keeps
    scores from changing abruptly (Miyato et al., 2018). With three `channels`, a score sees 38 x 38 pixels.
    """

    def __init__(self, inputs: int, channels: Sequence[int] = (16, 32, 64)) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise((inputs, *channels)):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, 2, padding=1)), nn.LeakyReLU(0.2)]
        super().__init__(*layers, spectral_norm(nn.Conv2d(channels[-1], 1, 3, padding=1)))


def alternating(
    optimisers: Sequence[torch.optim.Optimizer],
    make: Make,
    weight: float,
    kind: str = "non_saturating",
    precision: torch.dtype | None = None,
) -> Callable[[Any, Any], dict[str, Tensor]]:
    """A step for `training.fit`: the discriminator learns from a batch, then the generator from the same one.

    `optimisers`: the generator's, the discriminator's; give both to `fit`, too. `make`: `(generator, batch) -> (true
    sample, made sample, loss of its own)`, such as `judged_masks` returns. `weight`, `kind`: of the adversarial loss
    that is added to that; see `losses.discriminator`. `precision`: of both networks; None for float32.

    The step's model is an `nn.ModuleDict` of `"generator"` and `"discriminator"`. It reports `loss`, the generator's
    own, `discriminator_loss`, and `discriminator_accuracy`: the share of patches judged right, 0.5 by guessing.
    """
    border = 0.5 if kind == "least_squares" else 0.0

    def step(model: Any, batch: Any) -> dict[str, Tensor]:
        mixed = torch.autocast(batch[0].device.type, dtype=precision, enabled=precision is not None)
        with mixed:
            real, fake, own = make(model["generator"], batch)
            on_real, on_fake = model["discriminator"](real), model["discriminator"](fake.detach())
            cost = losses.discriminator(on_real, on_fake, kind)
        cost.backward()
        optimisers[1].step()
        with mixed:
            fooled = losses.generator(model["discriminator"](fake), kind)
        (own + weight * fooled).backward()
        optimisers[0].step()
        model.zero_grad()  # both: the generator's loss has left gradients at the discriminator, too
        right = ((on_real > border).float().mean() + (on_fake <= border).float().mean()) / 2
        return {"loss": own, "discriminator_loss": cost, "discriminator_accuracy": right}

    return step


def judged_masks(loss: Callable[[Tensor, Tensor], Tensor]) -> Make:
    """For `alternating`: pictures with their true masks, and with predicted ones, stacked behind them; and `loss`.

    Luc et al.: Semantic segmentation using adversarial networks, 2016. A batch is images `[B, 3, H, W]` and class ids
    `[B, H, W]`; the generator returns logits `[B, C, H, W]`; samples are `[B, 3 + C, H, W]`. Predicted masks are
    rounded, or grey values would give them away; gradients pass straight through (Bengio et al., 2013).
    """

    def make(net: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        images, target = batch[0].contiguous(memory_format=torch.channels_last), batch[1]
        logits = net(images).float()
        p, true = losses.pairs(logits, target)
        rounded = torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1) * true.sum(1, keepdim=True)
        return torch.cat([images, true], 1), torch.cat([images, rounded + (p - p.detach())], 1), loss(logits, target)

    return make
