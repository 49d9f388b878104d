"""A reduced set of event digits and the command line that trains on it."""

from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks import data
from benchmarks.data.splits import read_split, write_split

TIME_STEPS = 4


class SmallData(NamedTuple):
    """Where the reduced set and its split are."""

    root: Path
    split: Path


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """60 recordings in 4 frames, with a split of their own."""
    folder = tmp_path_factory.mktemp("small")
    root, split = folder / "event_digits", folder / "split.json"
    data.prepare("event_digits", root, time_steps=TIME_STEPS, per_class=6)
    names = data.load("event_digits", root, TIME_STEPS).names
    write_split(read_split("event_digits").restricted(names), split)
    return SmallData(root, split)


@pytest.fixture
def small_run(small_data, tmp_path):
    """Command-line words of a run of seconds; more can be appended."""

    def words(*more):
        settings = {
            "data.root": small_data.root,
            "data.split": small_data.split,
            "data.time_steps": TIME_STEPS,
            "output": tmp_path / "runs",
            "model.kwargs.channels": "[4, A, A, 8, A]",
            "neuron.kwargs.v_threshold": 0.5,
            "surrogate.mask": '{"name": "bernoulli", "p": 0.5}',
            "readout.name": "temporally_weighted",
            "readout.kwargs.start_epoch": 2,
            "optimization.epochs": 4,
            "optimization.batch_size": 8,
            "optimization.lr": 0.01,
            "device.accelerator": "cpu",
        }
        settings |= dict(zip(more[::2], more[1::2], strict=True))
        return [str(w) for k, v in settings.items() for w in (f"--{k}", v)]

    return words
