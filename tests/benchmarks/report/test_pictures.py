"""The README's pictures are drawn from the results beside them."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.report.readme.__main__ import README, RESULTS
from benchmarks.report.readme.pictures import LARGEST, PICTURES, drawn, write_pictures


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_shows_the_present_results(name):
    source, draw = PICTURES[name]
    new = drawn(draw, RESULTS / source)
    assert len(new) <= LARGEST
    assert f"benchmarks/results/{name}" in README.read_text()
    with Image.open(RESULTS / name) as old, Image.open(io.BytesIO(new)) as drawing:
        pixels = [np.asarray(i.convert("L"), dtype=float) for i in (old, drawing)]
    assert pixels[0].shape == pixels[1].shape
    # Not to the bit: other releases of the libraries smooth lines in other ways.
    assert np.abs(pixels[0] - pixels[1]).mean() < 1.0


def test_other_results_give_another_picture(tmp_path):
    source, draw = PICTURES["pruning-cpu.png"]
    content = json.loads((RESULTS / source).read_text())
    for row in content["rows"]:
        row["test_accuracy"]["selected"]["mean"] /= 2
    (tmp_path / source).write_text(json.dumps(content))
    assert write_pictures(tmp_path) == [tmp_path / "pruning-cpu.png"]
    assert drawn(draw, RESULTS / source) != (tmp_path / "pruning-cpu.png").read_bytes()
