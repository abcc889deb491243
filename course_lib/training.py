"""The training loop under every network of the course; lesson 03 builds its core. Nothing is ever unpickled."""

import copy
import json
import math
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from course_lib import paths
from course_lib.errors import CourseError, InputError


class TrainingError(CourseError):
    """Training cannot go on, or a file of weights does not fit."""


@dataclass
class History:
    """What `fit` saw. A row is an epoch: `epoch` (from 1), means of what the steps returned (`loss`), the last step's
    `lr`, training `seconds`, scores. `history["loss"]` is a column; `best_epoch` is None where nothing was scored."""

    rows: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int | None = None
    interrupted: bool = False

    def __getitem__(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]


def warm_up_then_linear(progress: float) -> float:
    """Factor of the learning rate: in a line from 0 to 1 at a fifth of the run, then in a line to 0 at its end."""
    return min(progress / 0.2, (1 - progress) / 0.8)


def fit(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Callable[[Tensor, Any], Tensor] | None = None,
    *,
    epochs: int,
    optimiser: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    schedule: Callable[[float], float] = warm_up_then_linear,
    evaluate: Callable[[nn.Module], Mapping[str, float]] | None = None,
    metric: str = "accuracy",
    checkpoint: Path | None = None,
    precision: torch.dtype | None = None,
    step: Callable[[nn.Module, Any], Mapping[str, Tensor | float]] | None = None,
) -> History:
    """Train `model`, and leave it in evaluation mode with its best weights if `evaluate` is given, else with its last.

    Interrupting stops, and keeps the best so far. With a `checkpoint`, the same call goes on after the last complete
    epoch, in a new process too, and on a CPU reaches the same weights bit for bit; of a finished run it reads the end.
    Raises TrainingError: a value is not finite; memory is exhausted; the checkpoint is damaged, or of another run.

    `model`: on its device; its weights become channels-last. `batches`: in each of `epochs` passes, `(images, target)`
    on the device, or what `step` takes; pictures first. It has a length; its `epoch`, if any, is set to 0, 1, 2, ...: a
    pass may draw from it and torch alone. `loss`: `(model(images), target) -> scalar`; the model's output arrives in
    float32. `step`: `(model, batch) -> values to report`, instead of `loss`; it runs `backward` and the optimisers.
    `optimiser`: one, or several that all take part in steps, schedule and checkpoint. `schedule`: share of the run,
    0..1 -> factor of every learning rate; taken at the middle of each step. `evaluate`: model -> scores; called after
    each epoch, without gradients. The highest `metric` is the best. `checkpoint`: a file, written at the start and
    after each epoch; name it after all that the result depends on. `precision`: None for float32, or what
    `fastest_precision` says; a resumed run keeps its checkpoint's.
    """
    if (loss is None) == (step is None) or (step and precision):
        raise InputError("give either a loss or a step of your own", "such a step also chooses its own precision")
    model.to(memory_format=torch.channels_last)
    optimisers = [optimiser] if isinstance(optimiser, torch.optim.Optimizer) else list(optimiser)
    steps = len(batches)  # type: ignore[arg-type]
    plan = {"epochs": epochs, "steps an epoch": steps, "metric": evaluate and metric, "seed": torch.initial_seed()}
    for i, group in enumerate(group for each in optimisers for group in each.param_groups):
        plan |= {f"{name} of parameter group {i}": value for name, value in group.items() if name != "params"}
    if checkpoint and not checkpoint.exists():
        _save(checkpoint, model, optimisers, plan, {}, History(), precision)
    best, history, precision = _load(checkpoint, model, optimisers, plan) if checkpoint else ({}, History(), precision)
    groups = [(group, group["lr"]) for each in optimisers for group in each.param_groups]
    if history.rows:
        print(f"{checkpoint}: {len(history.rows)} of {epochs} epochs are done already")
    bar = tqdm(total=epochs * steps, initial=len(history.rows) * steps, unit="step", disable=None)
    try:
        for epoch in range(len(history.rows), epochs):
            if hasattr(batches, "epoch"):
                batches.epoch = epoch
            model.train()
            reports, start = list[Any](), perf_counter()
            for number, batch in enumerate(batches, epoch * steps + 1):
                for group, base in groups:
                    group["lr"] = base * schedule((number - 0.5) / (epochs * steps))
                report = step(model, batch) if step else _step(model, batch, loss, optimisers, precision)
                reports.append({name: torch.as_tensor(value).detach() for name, value in report.items()})
                bar.update()
                if number % 10 == 0:  # seldom: reading a number makes a GPU wait
                    speed = {"images/s": len(reports) * len(batch[0]) / (perf_counter() - start)}
                    bar.set_postfix(_means(reports[-10:], number, groups[0][0]["lr"]) | speed, refresh=False)
            row = {"epoch": epoch + 1, **_means(reports, number, groups[0][0]["lr"]), "seconds": perf_counter() - start}
            if evaluate:
                row |= {name: float(value) for name, value in torch.no_grad()(evaluate)(model.eval()).items()}
                if metric not in row:
                    raise InputError(f"evaluate returns no {metric!r}", f"name one of its scores: {', '.join(row)}")
                if row[metric] > max((score for score in history[metric] if score == score), default=-math.inf):
                    best, history.best_epoch = {k: v.cpu().clone() for k, v in model.state_dict().items()}, epoch + 1
                bar.set_description(f"{metric} {row[metric]:.3f}")
            history.rows.append(row)
            if checkpoint:
                _save(checkpoint, model, optimisers, plan, best, history, precision)
    except KeyboardInterrupt:
        history.interrupted = True
        print(f"interrupted after {len(history.rows)} of {epochs} epochs; the best weights so far are kept")
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        traceback.clear_frames(error.__traceback__)  # or a notebook, which keeps the error, keeps its tensors too
        advice = f"try a batch size of {max(len(batch[0]) // 2, 1)}, or smaller pictures"
        raise TrainingError(f"out of memory with a batch of {len(batch[0])}", advice) from error
    finally:
        bar.close()
        for group, base in groups:
            group["lr"] = base
    model.eval().load_state_dict(best or model.state_dict())
    return history


def fastest_precision(model: nn.Module, batch: tuple[Tensor, Any], loss: Callable) -> torch.dtype | None:
    """`torch.bfloat16` where mixed precision makes three steps, on a copy, 1.15 times as fast as float32, else None."""
    device = batch[0].device
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    trial = copy.deepcopy(model).to(memory_format=torch.channels_last).train()
    laps: dict[torch.dtype | None, list[float]] = {None: [], torch.bfloat16: []}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for precision in [*laps] * 4:  # the first lap warms up, the fastest counts
            start = perf_counter()
            float(_step(trial, batch, loss, [], precision)["loss"])  # reading waits for a GPU
            laps[precision].append(perf_counter() - start)
    return torch.bfloat16 if min(laps[None]) >= 1.15 * min(laps[torch.bfloat16]) else None


def save_weights(weights: nn.Module | Mapping[str, Tensor], path: Path, **card: object) -> None:
    """Write weights to a safetensors file in one step, with `card` (such as `accuracy=0.91`) as its metadata."""
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else weights
    copies = {name: t.cpu().clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
    named = {name: str(value) for name, value in card.items()}
    paths.write_atomically(path, lambda fresh: safetensors.torch.save_file(copies, fresh, named))


def load_weights(model: nn.Module, path: Path) -> dict[str, str]:
    """Read what `save_weights` wrote into `model`; returns the card. TrainingError: the file is damaged or differs."""
    return _read(path, model, "", {})[1]


def _step(model: Any, batch: Any, loss: Any, optimisers: list[Any], precision: Any) -> dict[str, Tensor]:
    images, target = batch
    images = images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
    with torch.autocast(images.device.type, dtype=precision, enabled=precision is not None):
        output = model(images)
    value = loss(output.float(), target)  # in float32: a loss sums up many small numbers
    value.backward()
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad()
    return {"loss": value.detach()}


def _means(reports: list[Any], last: int, lr: float) -> dict[str, float]:
    columns = {name: torch.stack([torch.as_tensor(report[name]) for report in reports]).tolist() for name in reports[0]}
    for name, values in columns.items():
        for number, value in enumerate(values, last + 1 - len(values)):
            if not math.isfinite(value):
                advice = "lower the learning rate; look for targets without one valid label; try precision=None"
                raise TrainingError(f"{name} is {value} at step {number}, at a learning rate near {lr:.3g}", advice)
    return {name: sum(values) / len(values) for name, values in columns.items()} | {"lr": lr}


def _read(path: Path, model: nn.Module, prefix: str, plan: dict) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            tensors, card = {name: file.get_tensor(name).clone() for name in sorted(file.keys())}, file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        raise TrainingError(f"{path} cannot be read: {error}", "delete it, then make or download it anew") from error
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    there = card | {name: list(tensor.shape) for name, tensor in weights.items()}
    here = plan | {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in [*here, *weights]:
        if (old := str(there.get(name, "absent"))) != (new := str(here.get(name, "absent"))):
            advice = "build the model and name the settings as they were, or delete the file, or name another"
            raise TrainingError(f"{path} does not fit: {name} is {old} in the file and {new} here", advice)
    model.load_state_dict(weights)
    return tensors, card


def _save(path: Path, model: Any, optimisers: Any, plan: Any, best: Any, history: History, precision: Any) -> None:
    random = {str(g.device): g.get_state() for g in [torch.default_generator, *torch.cuda.default_generators]}
    parts = {"model": model.state_dict(), "best": best, "random": random}
    for i, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            parts[f"{i}/{index}"] = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    tensors = {f"{part}/{name}": value for part, named in parts.items() for name, value in named.items()}
    save_weights(tensors, path, **plan, history=json.dumps(asdict(history)), precision=precision)


def _load(path: Path, model: Any, optimisers: Any, plan: Any) -> tuple[dict[str, Tensor], History, Any]:
    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    tensors, card = _read(path, model, "model/", plan)
    for i, optimiser in enumerate(optimisers):
        state = optimiser.state_dict()
        for index, weight in enumerate(weight for group in optimiser.param_groups for weight in group["params"]):
            state["state"][index] = saved = part(f"{i}/{index}/")
            for key in [key for key, value in saved.items() if value.shape == weight.shape]:
                saved[key] = torch.empty_like(weight).copy_(saved[key])  # channels-last again: to the last bit the same
        optimiser.load_state_dict(state)
    for each in [torch.default_generator, *torch.cuda.default_generators]:
        each.set_state(tensors.get(f"random/{each.device}", each.get_state()))
    return part("best/"), History(**json.loads(card["history"])), getattr(torch, card["precision"].split(".")[-1], None)
