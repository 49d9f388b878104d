"""CIFAR-10 comes from torchvision's folder, stands still, and keeps its test part."""

import numpy as np
import pytest
import torch
import torchvision

from benchmarks import data
from benchmarks.data.batches import batches
from benchmarks.data.splits import read_split

CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def official(monkeypatch):
    """What torchvision would read, with 200 and 20 random images."""
    generator = np.random.default_rng(0)

    class Official:
        classes = CLASSES

        def __init__(self, root, train):
            n = 200 if train else 20
            self.data = generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 10 for i in range(n)]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Official)


def test_every_step_shows_the_same_image(official, tmp_path):
    frames = data.load("cifar10", tmp_path, 3)
    assert frames.frames.shape == (220, 3, 3, 32, 32)
    (batch,) = batches(frames, torch.tensor([0, 219]), 2)
    assert batch.frames.shape == (3, 2, 3, 32, 32)
    assert torch.equal(batch.frames[0], batch.frames[2])
    assert frames.classes == tuple(CLASSES)
    assert (frames.names[0], frames.names[219]) == (
        "airplane/train_00000.png",
        "truck/test_00019.png",
    )


def test_the_test_part_is_the_official_one(official, tmp_path):
    path = data.prepare("cifar10", tmp_path)
    split = read_split(path)
    assert len(split.test) == 20
    assert all("/test_" in name for name in split.test)
    assert (len(split.train), len(split.validation)) == (180, 20)
    labels = [name.partition("/")[0] for name in split.validation]
    assert sorted(labels) == sorted(CLASSES * 2)
    split.indices(data.load("cifar10", tmp_path, 1).names)


def test_real_images_keep_their_colours_and_places(real_data, monkeypatch, tmp_path):
    with np.load(real_data / "cifar10_subset.npz") as arrays:
        images = {key: arrays[key] for key in arrays.files if "test" in key}
    pixels = next(a for a in images.values() if a.ndim == 4)

    class Official:
        classes = CLASSES

        def __init__(self, root, train):
            self.data = pixels[:10].transpose(0, 2, 3, 1)
            self.targets = list(range(10))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Official)
    frames = data.load("cifar10", tmp_path, 2).frames
    assert torch.equal(frames[10:, 1], torch.from_numpy(pixels[:10]))


def test_missing_images_are_explained_with_a_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="download=True"):
        data.load("cifar10", tmp_path, 4)


def test_a_part_of_the_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected no `per_class`.*got 3"):
        data.prepare("cifar10", tmp_path, per_class=3)
