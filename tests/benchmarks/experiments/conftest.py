"""A small experiment on the reduced event digits."""

import pytest
import yaml

from benchmarks.experiments.description import read_experiment

TINY = {
    "title": "Seconds",
    "paper": "2406.19645",
    "table": "none",
    "task": "train",
    "arms": {"base": {}, "MSG": {"surrogate.mask": {"name": "bernoulli", "p": 0.5}}},
    "seeds": [0, 1],
    "demo": {"minutes": 0.1, "seeds": [0], "overrides": {"optimization.epochs": 1}},
    "reported": [
        {
            "arm": "MSG",
            "value": 83.3,
            "deviation": 0.12,
            "source": "table 1",
            "confidence": "second-hand",
        }
    ],
}


@pytest.fixture(scope="session")
def train_keys(small_data):
    """Keys of a training run of a second."""
    return {
        "data": {
            "root": str(small_data.root),
            "split": str(small_data.split),
            "time_steps": 4,
        },
        "model": {"kwargs": {"channels": ["A", 4, "A", "A", 8, "A"]}},
        "neuron": {"kwargs": {"v_threshold": 0.5}},
        "optimization": {"epochs": 2, "batch_size": 8, "lr": 0.01},
        "device": {"accelerator": "cpu"},
    }


@pytest.fixture
def write(tmp_path, train_keys):
    """Write the experiment, with some keys changed, and give its path."""

    def written(name="tiny", **changes):
        content = {"name": name, "config": train_keys, **TINY, **changes}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return written


@pytest.fixture
def tiny(write):
    """Read the experiment, with some keys changed."""

    def read(name="tiny", **changes):
        return read_experiment(str(write(name, **changes)))

    return read
