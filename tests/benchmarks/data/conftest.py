"""A small set of event digits, prepared once for all tests here."""

from pathlib import Path

import pytest

from benchmarks.data import event_digits
from benchmarks.data.archives import read_in_threads

PER_CLASS = 2
TIME_STEPS = 4


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete folder of 20 recordings in 4 frames. Not to be changed."""
    root = tmp_path_factory.mktemp("event_digits")
    event_digits.prepare(root, per_class=PER_CLASS, time_steps=TIME_STEPS)
    return root


@pytest.fixture
def archives_read_in_threads():
    """For the host's loaders, which build frames in threads."""
    with read_in_threads():
        yield
