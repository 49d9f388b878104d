"""The README's pictures are drawn from the results beside them."""

import io
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.report.readme import pictures
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


def test_pictures_are_written_where_their_results_are(tmp_path, monkeypatch):
    def draw(result):
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot(result["values"])
        return figure

    known = {name: (f"{name}.json", draw) for name in ("one.png", "other.png")}
    monkeypatch.setattr(pictures, "PICTURES", known)
    found = set()
    for values in ([1, 2], [2, 1]):
        (tmp_path / "one.png.json").write_text(json.dumps({"values": values}))
        assert write_pictures(tmp_path) == [tmp_path / "one.png"]
        found.add((tmp_path / "one.png").read_bytes())
    assert len(found) == 2


def test_a_picture_too_large_for_the_repository_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr(pictures, "LARGEST", 10)
    with pytest.raises(ValueError, match="at most 10 bytes"):
        drawn(lambda _: Figure(figsize=(2, 1)), tmp_path / "a.json")
