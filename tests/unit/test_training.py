"""The training engine: what it learns, what it repeats bit for bit, what it writes, and what its errors advise."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib import training
from course_lib.errors import InputError
from course_lib.training import TrainingError, fit, load_weights, save_weights, warm_up_then_linear


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pictures:
    """Sixteen noisy pictures of two classes, four batches a pass; order and noise depend on `epoch` alone."""

    def __init__(self, batch_size=4):
        self.batch_size, self.epoch = batch_size, -1

    def __len__(self):
        return 16 // self.batch_size

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.epoch)
        labels = torch.arange(16) % 2
        for chosen in torch.randperm(16, generator=generator).split(self.batch_size):
            noise = torch.randn(len(chosen), 3, 8, 8, generator=generator)
            yield noise + 2 * labels[chosen].view(-1, 1, 1, 1) - 1, labels[chosen]


def network(width=6, seed=0):
    """A network with all that makes repeating hard: batch statistics, dropout, weights of four dimensions."""
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.3)),
        *(nn.Conv2d(width, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2)),
    )


def two_optimisers(model):
    return [
        torch.optim.SGD(model[:4].parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
        torch.optim.AdamW(model[4:].parameters(), lr=0.01),
    ]


def accuracy(model):
    images, labels = next(iter(Pictures(16)))
    return {"accuracy": float((model(images).argmax(1) == labels).double().mean()), "share": 0.5}


def run(checkpoint=None, *, loss=F.cross_entropy, epochs=3, width=6, lr=None, **options):
    model = network(width)
    optimisers = two_optimisers(model) if lr is None else torch.optim.SGD(model.parameters(), lr=lr)
    history = fit(model, Pictures(), loss, epochs=epochs, optimiser=optimisers, checkpoint=checkpoint, **options)
    return model, history


def dying_at(step, death):
    """Cross entropy that calls `death` at a step, counted from 1."""
    steps = count(1)

    def loss(logits, labels):
        if next(steps) == step:
            death()
        return F.cross_entropy(logits, labels)

    return loss


def interrupt():
    raise KeyboardInterrupt


def die():
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows any signal ends a process at once


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history.rows]


def test_learns_sixteen_pictures():
    model, history = run(epochs=12, evaluate=accuracy)
    assert accuracy(model)["accuracy"] == 1
    assert history["loss"][-1] < history["loss"][0] / 2
    assert [row["epoch"] for row in history.rows] == list(range(1, 13))
    assert set(history.rows[0]) == {"epoch", "loss", "lr", "seconds", "accuracy", "share"}
    assert not model.training
    assert json.loads(json.dumps(asdict(history)))["rows"] == history.rows


def test_schedule_by_hand():
    by_hand = {0.0: 0.0, 0.1: 0.5, 0.2: 1.0, 0.6: 0.5, 0.8: 0.25, 1.0: 0.0}
    assert {progress: pytest.approx(warm_up_then_linear(progress)) for progress in by_hand} == by_hand


def test_schedule_is_taken_at_the_middle_of_each_step_and_the_rate_is_given_back():
    asked = []

    def schedule(progress):
        asked.append(progress)
        return 1 - progress

    model = network()
    optimiser = torch.optim.SGD([{"params": model[:4].parameters()}, {"params": model[4:].parameters(), "lr": 2}], lr=1)
    seen = []

    def step(model, batch):
        seen.append([group["lr"] for group in optimiser.param_groups])
        return {}

    history = fit(model, Pictures(), step=step, epochs=2, optimiser=optimiser, schedule=schedule)
    assert sorted(set(asked)) == [pytest.approx((i + 0.5) / 8) for i in range(8)]
    assert seen == [[pytest.approx(1 - (i + 0.5) / 8), pytest.approx(2 - (i + 0.5) / 4)] for i in range(8)]
    assert [group["lr"] for group in optimiser.param_groups] == [1, 2]
    assert history["lr"] == [pytest.approx(1 - 3.5 / 8), pytest.approx(1 - 7.5 / 8)]


def test_same_seed_same_weights():
    (first, history), (second, again) = run(evaluate=accuracy), run(evaluate=accuracy)
    assert same(first, second)
    assert without_seconds(history) == without_seconds(again)


def test_weights_and_pictures_are_channels_last():
    seen = []
    model = network()
    model[0].register_forward_pre_hook(lambda _, images: seen.append(images[0]))
    fit(model, Pictures(), F.cross_entropy, epochs=1, optimiser=torch.optim.SGD(model.parameters()))
    assert len(seen) == 4
    for tensor in [*seen, model[0].weight]:
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("step", [2, 7, 12])
def test_killed_run_resumes_to_the_same_bits(tmp_path, step):
    """The killed process is another one; this one goes on from its file."""
    file = tmp_path / "run.safetensors"
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import pathlib, torch, test_training as t\n"
        f"torch.set_num_threads(1); path = pathlib.Path({str(file)!r})\n"
        f"t.run(path, loss=t.dying_at({step}, t.die), evaluate=t.accuracy)"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == (1 if sys.platform == "win32" else -signal.SIGKILL), killed.stderr
    straight, expected = run(evaluate=accuracy)
    expected_draw = torch.rand(3)
    resumed, history = run(file, evaluate=accuracy)
    assert same(resumed, straight)
    assert without_seconds(history) == without_seconds(expected)
    assert history.best_epoch == expected.best_epoch
    assert torch.equal(torch.rand(3), expected_draw)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_checkpoint_changes_nothing(tmp_path):
    (with_file, history), (without, expected) = run(tmp_path / "run", evaluate=accuracy), run(evaluate=accuracy)
    assert same(with_file, without)
    assert without_seconds(history) == without_seconds(expected)


def test_interrupted_kernel_resumes_with_the_same_objects(tmp_path):
    """As in a notebook: the cell is run again, with the model, the optimisers and the generator as they were left."""
    straight, expected = run()
    file, model = tmp_path / "run", network()
    optimisers = two_optimisers(model)
    for death in (3, 6):
        loss = dying_at(death, interrupt)
        history = fit(model, Pictures(), loss, epochs=3, optimiser=optimisers, checkpoint=file)
        assert history.interrupted
    history = fit(model, Pictures(), F.cross_entropy, epochs=3, optimiser=optimisers, checkpoint=file)
    assert same(model, straight)
    assert without_seconds(history) == without_seconds(expected)
    assert not history.interrupted


def test_optimiser_state_keeps_its_memory_layout(tmp_path):
    model, file = network(), tmp_path / "run"
    optimiser = torch.optim.Adam(model.parameters())
    fit(model, Pictures(), F.cross_entropy, epochs=1, optimiser=optimiser, checkpoint=file)
    saved = optimiser.state[model[4].weight]["exp_avg"]
    again = network()
    fresh = torch.optim.Adam(again.parameters())
    fit(again, Pictures(), F.cross_entropy, epochs=1, optimiser=fresh, checkpoint=file)
    loaded = fresh.state[again[4].weight]["exp_avg"]
    assert torch.equal(saved, loaded)
    assert saved.stride() == loaded.stride()
    assert not loaded.is_contiguous()


def test_finished_run_is_only_read(tmp_path, capsys):
    file = tmp_path / "deep" / "run.safetensors"
    first, history = run(file, evaluate=accuracy)
    written = file.stat().st_mtime_ns

    def never(*_):
        raise AssertionError("no step must be taken")

    again, read = run(file, loss=never, evaluate=accuracy)
    assert same(again, first)
    assert read == history
    assert not again.training
    assert file.stat().st_mtime_ns == written
    assert "3 of 3 epochs are done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 4}, "epochs is 3 in the file and 4 here"),
        ({"width": 7}, r"0.weight is \[6, 3, 3, 3\] in the file and \[7, 3, 3, 3\] here"),
        ({"lr": 0.1}, "lr of parameter group 0 is 0.05 in the file and 0.1 here"),
        ({"evaluate": accuracy}, "metric is None in the file and accuracy here"),
    ],
)
def test_checkpoint_of_another_run_is_refused(tmp_path, changed, message):
    file = tmp_path / "run.safetensors"
    run(file)
    with pytest.raises(TrainingError, match=rf"run.safetensors does not fit: {message}(.|\n)*name another"):
        run(file, **changed)


def test_checkpoint_of_another_seed_is_refused(tmp_path):
    for seed in (0, 1):
        model = network(seed=seed)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        if seed:
            with pytest.raises(TrainingError, match="seed is 0 in the file and 1 here"):
                fit(model, Pictures(), F.cross_entropy, epochs=1, optimiser=optimiser, checkpoint=tmp_path / "run")
        else:
            fit(model, Pictures(), F.cross_entropy, epochs=1, optimiser=optimiser, checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:40], lambda _: b"", lambda _: b"PK" * 99]
)
def test_damaged_checkpoint_is_refused(tmp_path, damage):
    file = tmp_path / "run.safetensors"
    run(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(TrainingError, match=r"run.safetensors cannot be read: (.|\n)*delete it"):
        run(file)


def test_weights_are_no_checkpoint(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_weights(network(), file)
    with pytest.raises(TrainingError, match="epochs is absent in the file and 3 here"):
        run(file)


def test_failed_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    file = tmp_path / "weights.safetensors"
    save_weights(network(), file, epoch=1)

    def half(tensors, path, card):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(training.safetensors.torch, "save_file", half)
        with pytest.raises(OSError, match="disk full"):
            save_weights(network(seed=1), file, epoch=2)
    assert load_weights(network(), file) == {"epoch": "1"}
    save_weights(network(seed=1), file, epoch=3)
    assert load_weights(network(), file) == {"epoch": "3"}
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_best_weights_are_those_of_the_best_epoch():
    scores = iter([math.nan, 0.3, 0.8, 0.8, math.nan, 0.5])
    seen = []

    def evaluate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return {"other": 1.0, "mean_iou": next(scores)}

    model, history = run(epochs=6, evaluate=evaluate, metric="mean_iou")
    assert history.best_epoch == 3
    assert all(torch.equal(tensor, seen[2][name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(seen[2]["0.weight"], seen[5]["0.weight"])


def test_without_scores_the_last_weights_stay():
    seen = []

    def step(model, batch):
        seen.append(model[0].weight.detach().clone())
        return training._step(model, batch, F.cross_entropy, [optimiser], None)

    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, Pictures(), step=step, epochs=2, optimiser=optimiser)
    assert history.best_epoch is None
    assert not torch.equal(model[0].weight, seen[-1])


def test_interrupting_keeps_the_best_so_far(capsys):
    kept, history = run(loss=dying_at(11, interrupt), evaluate=accuracy)
    assert history.interrupted
    assert len(history.rows) == 2
    assert "interrupted after 2 of 3 epochs; the best weights so far are kept" in capsys.readouterr().out
    assert accuracy(kept)["accuracy"] == max(history["accuracy"]) == history["accuracy"][history.best_epoch - 1]


@pytest.mark.parametrize(("value", "said"), [(math.nan, "nan"), (math.inf, "inf")])
@pytest.mark.parametrize("at", [3, 4, 9])
def test_loss_that_is_not_finite_stops_with_advice(at, value, said):
    steps = count(1)

    def loss(logits, labels):
        return F.cross_entropy(logits, labels) * (value if next(steps) == at else 1)

    message = rf"loss is {said} at step {at}, at a learning rate near 0\.\d+\nWhat to do: lower the learning rate"
    with pytest.raises(TrainingError, match=message):
        run(loss=loss)


@pytest.mark.parametrize(("size", "advice"), [(4, "batch size of 2"), (1, "batch size of 1, or smaller pictures")])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_names_the_batch_size_to_try(size, advice, error):
    model = network()
    model[3].register_forward_hook(lambda *_: (_ for _ in ()).throw(error("GPU out of memory. Tried to allocate")))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TrainingError, match=rf"out of memory with a batch of {size}\nWhat to do: try a {advice}"):
        fit(model, Pictures(size), F.cross_entropy, epochs=1, optimiser=optimiser)
    assert optimiser.param_groups[0]["lr"] == 0.1


def test_other_errors_pass_unchanged():
    with pytest.raises(RuntimeError, match="shape of tensors"):
        run(loss=lambda logits, labels: (_ for _ in ()).throw(RuntimeError("shape of tensors")))


def test_contradictions_are_refused():
    with pytest.raises(InputError, match="either a loss or a step"):
        run(step=lambda model, batch: {})
    with pytest.raises(InputError, match="either a loss or a step"):
        run(loss=None)
    with pytest.raises(InputError, match="chooses its own precision"):
        run(loss=None, step=lambda model, batch: {}, precision=torch.bfloat16)
    with pytest.raises(InputError, match=r"no 'dice'(.|\n)*accuracy, share"):
        run(evaluate=accuracy, metric="dice")


def adversarial(checkpoint=None, die_at=None):
    """Two networks, two optimisers, a step that serves them in turn and draws random numbers."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"maker": nn.Sequential(nn.Linear(4, 192), nn.Dropout(0.2)), "judge": nn.Linear(192, 1)})
    maker = torch.optim.Adam(model["maker"].parameters(), lr=1e-2, betas=(0.5, 0.999))
    judge = torch.optim.SGD(model["judge"].parameters(), lr=1e-2, momentum=0.9)
    steps = count(1)

    def step(model, batch):
        if next(steps) == die_at:
            raise KeyboardInterrupt
        real = batch[0].flatten(1)
        made = model["maker"](torch.randn(len(real), 4))
        judge_loss = F.softplus(-model["judge"](real)).mean() + F.softplus(model["judge"](made.detach())).mean()
        judge_loss.backward()
        judge.step()
        maker.zero_grad()
        maker_loss = F.softplus(-model["judge"](made)).mean()
        maker_loss.backward()
        maker.step()
        judge.zero_grad()
        return {"maker": maker_loss, "judge": judge_loss, "drawn": len(real)}

    return model, fit(model, Pictures(), step=step, epochs=3, optimiser=[maker, judge], checkpoint=checkpoint)


def test_alternating_step_resumes_to_the_same_bits(tmp_path):
    straight, expected = adversarial()
    _, stopped = adversarial(tmp_path / "run", die_at=7)
    assert stopped.interrupted
    resumed, history = adversarial(tmp_path / "run")
    assert same(resumed, straight)
    assert without_seconds(history) == without_seconds(expected)
    assert history["drawn"] == [4, 4, 4]
    assert {"maker", "judge"} < set(history.rows[0])


def test_resumed_run_keeps_its_precision(tmp_path):
    file = tmp_path / "run"
    straight, _ = run(precision=torch.bfloat16)
    run(file, precision=torch.bfloat16, loss=dying_at(6, interrupt))
    resumed, _ = run(file, precision=None)
    assert same(resumed, straight)
    assert not same(resumed, run()[0])


def test_the_loss_is_in_float32_also_when_the_precision_is_mixed():
    seen = set()

    def loss(logits, labels):
        seen.add(logits.dtype)
        return F.cross_entropy(logits, labels)

    run(loss=loss, precision=torch.bfloat16, epochs=1)
    assert seen == {torch.float32}


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(module, name, refuse)
    file = tmp_path / "run"
    run(file, loss=dying_at(6, interrupt), evaluate=accuracy)
    model, _ = run(file, evaluate=accuracy)
    save_weights(model, tmp_path / "weights")
    load_weights(model, tmp_path / "weights")


def test_weights_there_and_back(tmp_path):
    file = tmp_path / "new" / "weights.safetensors"
    model = network().to(memory_format=torch.channels_last)
    model[1].running_mean += 1
    save_weights(model, file, accuracy=0.91, dataset="cells")
    other = network(seed=1)
    assert load_weights(other, file) == {"accuracy": "0.91", "dataset": "cells"}
    assert same(other, model)


def test_weights_shared_by_two_layers_are_kept(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "weights")
    load_weights(model, tmp_path / "weights")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: network(7), r"0.weight is \[6, 3, 3, 3\] in the file and \[7, 3, 3, 3\] here"),
        (lambda: network()[:9], r"9.bias is \[2\] in the file and absent here"),
        (lambda: nn.Sequential(*network(), nn.Linear(2, 2)), r"10.weight is absent in the file and \[2, 2\] here"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, other, message):
    save_weights(network(), tmp_path / "weights")
    with pytest.raises(TrainingError, match=message):
        load_weights(other(), tmp_path / "weights")


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(TrainingError, match=r"weights.safetensors cannot be read: (.|\n)*download it anew"):
        load_weights(network(), tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("plain", "mixed", "chosen"), [(1.15, 1.0, torch.bfloat16), (1.14, 1.0, None), (0.5, 1.0, None)]
)
def test_precision_follows_the_clock(monkeypatch, plain, mixed, chosen):
    """The clock jumps a hundred seconds in the laps that warm up, and as told in the others."""
    durations = [100.0, 100.0] + [plain, mixed] * 3
    readings = [time for duration in durations for time in (0.0, duration)]
    monkeypatch.setattr(training, "perf_counter", iter(readings).__next__)
    model = network()
    before, state = {name: t.clone() for name, t in model.state_dict().items()}, torch.get_rng_state()
    assert training.fastest_precision(model, next(iter(Pictures())), F.cross_entropy) is chosen
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(weight.grad is None for weight in model.parameters())
    assert model.training


def test_progress_shows_loss_score_and_speed(monkeypatch):
    shown, described, made = [], [], []

    class Bar:
        def __init__(self, **options):
            made.append(options)

        def update(self):
            made[0]["initial"] += 1

        def set_postfix(self, values, refresh):
            shown.append(values)

        def set_description(self, text):
            described.append(text)

        def close(self):
            made.append("closed")

    monkeypatch.setattr(training, "tqdm", Bar)
    run(evaluate=accuracy)
    assert made == [{"total": 12, "initial": 12, "unit": "step", "disable": None}, "closed"]
    assert [set(values) for values in shown] == [{"loss", "lr", "images/s"}]
    assert [text.split()[0] for text in described] == ["accuracy"] * 3


def test_quiet_where_there_is_no_terminal(capfd):
    run(epochs=1)
    assert capfd.readouterr() == ("", "")
