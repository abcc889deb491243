"""Adversarial training: losses worked by hand, what each optimiser moves, and games that stay stable."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import data, losses, metrics, training
from course_lib.data.batches import Batches
from course_lib.errors import InputError
from course_lib.models.gan import PatchDiscriminator, alternating, judged_masks
from course_lib.models.unet import UNet

KINDS = ("non_saturating", "least_squares", "hinge")


def test_values_worked_by_hand():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([-1.0])
    expected = {
        "non_saturating": ((math.log1p(math.exp(-2)) + math.log(2)) / 2 + math.log1p(math.exp(-1))) / 2,
        "least_squares": ((1 + 1) / 2 + 1) / 2,
        "hinge": ((0 + 1) / 2 + 0) / 2,
    }
    for kind, value in expected.items():
        assert losses.discriminator(real, fake, kind).item() == pytest.approx(value, abs=1e-6)
    for kind, value in {"non_saturating": math.log1p(math.e), "least_squares": 4, "hinge": 1}.items():
        assert losses.generator(fake, kind).item() == pytest.approx(value, abs=1e-6)


def test_non_saturating_is_pytorchs_cross_entropy():
    real, fake = torch.randn(2, 3, 1, 4, 4)
    entropy = F.binary_cross_entropy_with_logits
    expected = (entropy(real, torch.ones_like(real)) + entropy(fake, torch.zeros_like(fake))) / 2
    assert torch.allclose(losses.discriminator(real, fake), expected)
    assert torch.allclose(losses.generator(fake), entropy(fake, torch.ones_like(fake)))


@pytest.mark.parametrize("kind", KINDS)
def test_extreme_scores_have_finite_gradients(kind):
    scores = torch.tensor([-1e4, 0.0, 1e4], requires_grad=True)
    (losses.discriminator(scores, scores, kind) + losses.generator(scores, kind)).backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_wants_higher_scores(kind):
    scores = torch.linspace(-5, 0.9, 20, requires_grad=True)
    losses.generator(scores, kind).backward()
    assert (scores.grad < 0).all()


def test_unknown_kinds_list_the_known():
    with pytest.raises(InputError, match=r"kind = 'gan'[\s\S]*non_saturating, least_squares, hinge"):
        losses.discriminator(*torch.zeros(2, 1), "gan")


def test_a_score_for_each_patch():
    assert PatchDiscriminator(5)(torch.randn(2, 5, 64, 96)).shape == (2, 1, 8, 12)


def test_a_patch_is_38_pixels_wide():
    picture = torch.rand(1, 1, 128, 128, requires_grad=True)
    PatchDiscriminator(1)(picture)[0, 0, 8, 8].backward()
    rows, columns = picture.grad[0, 0].nonzero().T
    assert [int(each.max() - each.min()) + 1 for each in (rows, columns)] == [38, 38]


def test_weights_are_divided_by_their_spectral_norm():
    torch.manual_seed(0)
    net = PatchDiscriminator(3)
    for _ in range(50):  # the norms are estimated step by step
        net(torch.rand(1, 3, 32, 32))
    for layer in list(net)[::2]:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def sample(classes=3):
    torch.manual_seed(0)
    target = torch.randint(classes, (2, 6, 5))
    target[0, :2] = 255
    return torch.rand(2, 3, 6, 5), target


def test_judged_masks_differ_in_nothing_but_shapes():
    images, target = sample()
    logits = torch.randn(2, 3, 6, 5, requires_grad=True)
    real, fake, own = judged_masks(losses.cross_entropy)(lambda _: logits, (images, target))
    for pair in (real, fake):
        assert torch.equal(pair[:, :3], images)
        assert pair[:, 3:].unique().tolist() == [0, 1]
        assert torch.equal(pair[:, 3:].sum(1), (target != 255).float()), "void shows in neither"
    assert torch.equal(real[:, 3:].argmax(1)[target != 255], target[target != 255])
    assert torch.equal(fake[:, 3:].argmax(1)[target != 255], logits.argmax(1)[target != 255])
    assert torch.equal(own, losses.cross_entropy(logits, target))
    (fake[:, 3:] * torch.rand(3, 1, 1)).sum().backward()
    assert logits.grad[1].abs().sum() > 0
    assert not logits.grad[0, :, :2].any()


def game_of(seed=0):
    torch.manual_seed(seed)
    return nn.ModuleDict({"generator": UNet(2, 3, (4, 6, 8)), "discriminator": PatchDiscriminator(5, (4, 8, 8))})


def weights_of(net):
    return [each.detach().clone() for each in net.parameters()]


def batch_of(seed=0):
    torch.manual_seed(seed)
    return torch.rand(2, 3, 16, 16), torch.randint(2, (2, 16, 16))


@pytest.mark.parametrize("mover", [0, 1])
def test_each_optimiser_moves_its_own_network(mover):
    game = game_of()
    optimisers = [torch.optim.Adam(net.parameters(), 1e-3) for net in game.values()]
    optimisers[1 - mover].step = lambda: None
    before = [weights_of(net) for net in game.values()]
    alternating(optimisers, judged_masks(losses.cross_entropy), 0.1)(game, batch_of())
    moved = [
        any(not torch.equal(*pair) for pair in zip(old, weights_of(net), strict=True))
        for old, net in zip(before, game.values(), strict=True)
    ]
    assert moved == [mover == 0, mover == 1]
    assert all(each.grad is None for each in game.parameters()), "nothing is left over for the next step"


def test_weight_zero_is_the_generator_alone():
    game, alone = game_of().train(), game_of()["generator"].train()
    optimisers = [torch.optim.SGD(net.parameters(), 0.1) for net in game.values()]
    alternating(optimisers, judged_masks(losses.cross_entropy), 0.0)(game, batch_of())
    images, target = batch_of()
    losses.cross_entropy(alone(images), target).backward()
    torch.optim.SGD(alone.parameters(), 0.1).step()
    for one, other in zip(weights_of(game["generator"]), weights_of(alone), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


class Scripted(nn.Module):
    """A discriminator that gives true samples, which it sees first, 0.7 and made ones 0.3."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.zeros(1)), 0

    def forward(self, x):
        self.calls += 1
        return self.weight * x.mean() + (0.7 if self.calls == 1 else 0.3)


@pytest.mark.parametrize(("kind", "accuracy"), [("least_squares", 1.0), ("hinge", 0.5), ("non_saturating", 0.5)])
def test_least_squares_has_its_border_between_0_and_1(kind, accuracy):
    game = nn.ModuleDict({"generator": game_of()["generator"], "discriminator": Scripted()})
    optimisers = [torch.optim.SGD(net.parameters(), 0.1) for net in game.values()]
    step = alternating(optimisers, judged_masks(losses.cross_entropy), 0.1, kind)
    assert step(game, batch_of())["discriminator_accuracy"] == accuracy


def test_a_game_resumes(tmp_path):
    """Both networks and both optimisers come back from a checkpoint: the end is the same bit for bit."""

    class Interrupted(Exception):
        pass

    def run(stop_at=None, checkpoint=None):
        game, seen = game_of(), []
        optimisers = [torch.optim.Adam(net.parameters(), 1e-3) for net in game.values()]
        step = alternating(optimisers, judged_masks(losses.cross_entropy), 0.1)

        def counted(model, batch):
            seen.append(1)
            if len(seen) == stop_at:
                raise Interrupted
            return step(model, batch)

        options = {"epochs": 4, "optimiser": optimisers, "checkpoint": checkpoint, "step": counted}
        training.fit(game, [batch_of(1), batch_of(2)], **options)
        return weights_of(game)

    whole = run()
    with pytest.raises(Interrupted):
        run(6, tmp_path / "game")
    for one, other in zip(whole, run(None, tmp_path / "game"), strict=True):
        assert torch.equal(one, other)


def finished(seed, dataset, pictures):
    """Mean IoU without and with an adversary, from the same weights, and the discriminator's accuracy at the end."""
    torch.manual_seed(seed)
    begun, batches = UNet(2, 3, (8, 16, 32)), Batches(dataset, 8, crop=64, seed=seed)
    adam = torch.optim.AdamW(begun.parameters(), 5e-3, weight_decay=0.01)
    rise = {"epochs": 10, "schedule": lambda share: min(share / 0.2, 1)}
    training.fit(begun, batches, losses.cross_entropy, optimiser=adam, **rise)
    batches.seed, ious = 1000 + seed, []
    for weight in (0, 0.1):
        net, judge = copy.deepcopy(begun), PatchDiscriminator(5)
        of_net = torch.optim.AdamW(net.parameters(), 5e-3, weight_decay=0.01)
        fall = {"epochs": 9, "schedule": lambda share: 1 - share}
        if weight:
            of_judge = torch.optim.Adam(judge.parameters(), 2e-3, betas=(0.5, 0.999))
            game = nn.ModuleDict({"generator": net, "discriminator": judge})
            step = alternating((of_net, of_judge), judged_masks(losses.cross_entropy), weight)
            history = training.fit(game, batches, step=step, optimiser=(of_net, of_judge), **fall)
        else:
            training.fit(net, batches, losses.cross_entropy, optimiser=of_net, **fall)
        matrix = metrics.ConfusionMatrix(2)
        with torch.inference_mode():
            for image, mask in pictures:
                matrix.update(net(image[None] / 255).argmax(1)[0], mask)
        ious.append(matrix.summary()["mean_iou"])
    return *ious, np.mean(history["discriminator_accuracy"][-3:])


def test_twenty_games_stay_stable():
    """None diverges, the discriminator neither wins nor gives up, and the masks are as good as without it."""
    dataset = data.load("cells", "train", count=24, size=64)
    pictures = list(data.load("cells", "val", count=24, size=64))
    alone, against, accuracy = np.array([finished(seed, dataset, pictures) for seed in range(20)]).T
    assert 0.5 <= accuracy.min() <= accuracy.max() <= 0.95
    assert (against - alone).min() >= -0.03
