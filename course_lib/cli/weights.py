"""`course weights`: the trained weights in data/weights, and how to train them anew."""

import datetime
import json
import os
from typing import Annotated

import typer

from course_lib import paths
from course_lib.cli.errors import NotebookError

app = typer.Typer(help="List, verify and train the published weights.", no_args_is_help=True)
LARGEST = 2_000_000  # bytes a file: a clone of the repository stays small


@app.command("list")
def list_() -> None:
    """List the published weights with their cards; each is read, and compared with its checksum."""
    from course_lib import weights

    for name in weights.MODELS:
        weights.load(name)
        typer.echo(f"{name}: sound, {(weights.folder() / f'{name}.safetensors').stat().st_size:,} bytes")
        for key, value in weights.card(name).items():
            typer.echo(f"  {key}: {value}")


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="Such as cifar_cnn; `course weights list` names all.")],
    profile: Annotated[str | None, typer.Option(help="smoke, to try the command.")] = None,
    data: Annotated[str | None, typer.Option(help="real or synthetic, to try the command with other data.")] = None,
) -> None:
    """Run the lesson that trains NAME on the CPU, halve the weights' precision, and write them with their card."""
    import safetensors.torch

    from course_lib import training, weights
    from course_lib.cli.run import run

    if name not in weights.MODELS:
        raise NotebookError(f"no weights are named {name!r}", f"known: {', '.join(weights.MODELS)}")
    os.environ["COURSE_SEED"] = "0"
    lesson, *usual, build = weights.MODELS[name]
    chosen = [profile or usual[0], data or usual[1]]
    run([lesson], profile=chosen[0], data=chosen[1], device="cpu")
    file = paths.build_dir() / "weights" / f"{name}.safetensors"
    facts = training.load_weights(build(), file)
    tensors = safetensors.torch.load_file(file)
    halves = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    target = weights.folder() / file.name
    if (size := sum(tensor.nbytes for tensor in halves.values())) > LARGEST:
        raise NotebookError(f"{name} would have {size:,} bytes", f"at most {LARGEST:,} are published")
    training.save_weights(halves, target)
    command = f"course weights make {name}" + ("" if chosen == usual else " (shortened)")
    facts |= {"date": str(datetime.datetime.now(datetime.UTC).date()), "command": command}
    facts |= {"bytes": str(target.stat().st_size), "sha256": weights.checksum(target)}
    target.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{target}: {facts}")
