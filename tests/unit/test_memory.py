"""A free Binder machine has 2 GB: lessons 00 and 01 fit, and so does predicting with each of the trained weights.

Here lessons run on drawn data; the test of lesson 01 on the real nuclei looks at its memory, too.
"""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from course_lib import weights
from course_lib.cli.run import STAMP

SOLVED = Path(__file__).parents[2] / "notebooks" / "solutions"
MOST_MB = 1600  # of 2 GB, Jupyter itself takes the rest
PREDICT = """
import torch
from course_lib import weights
from course_lib.lesson import peak_memory_mb
net = weights.load({name!r}).eval()
size = (32, 32) if {name!r} == "cifar_cnn" else (520, 696)  # a large picture of the nuclei
with torch.inference_mode():
    image = torch.rand(3, *size)
    net([image] if {name!r} == "mask_rcnn_nuclei" else image[None])
print(peak_memory_mb())
"""


@pytest.mark.parametrize("lesson", ["00_start_here", "01_thresholding"])
def test_lessons_without_training(lesson, finished):
    notebook = nbformat.read(finished(SOLVED / f"{lesson}.ipynb"), 4)
    assert 200 < notebook.metadata[STAMP]["peak_mb"] < MOST_MB


@pytest.mark.parametrize("name", weights.MODELS)
def test_predicting(name):
    command = [sys.executable, "-c", PREDICT.format(name=name)]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 200 < peak < MOST_MB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the /proc that the figure is read from")
def test_a_process_does_not_count_what_its_parent_held():
    child = "from course_lib.lesson import peak_memory_mb; print(peak_memory_mb())"
    parent = "import subprocess, sys; held = b'1' * (1 << 31); "
    parent += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    peak = int(subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout)
    assert 200 < peak < MOST_MB
