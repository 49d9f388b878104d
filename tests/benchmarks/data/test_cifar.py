"""CIFAR images come from torchvision, stand still, and keep their test part."""

import numpy as np
import pytest
import torch
import torchvision

from benchmarks import data
from benchmarks.data.batches import batches
from benchmarks.data.splits import read_split
from benchmarks.runs.config import read
from benchmarks.runs.progress import Reporter
from benchmarks.studies.nulls import steps_are_equal
from benchmarks.tasks.train import train

CLASSES = ["airplane", "automobile", "bird", "cat", "deer"]
CLASSES += ["dog", "frog", "horse", "ship", "truck"]
SPLITS = ("", "_1", "_2", "_3", "_4")


@pytest.fixture
def official(monkeypatch):
    """What torchvision would read, with 200 and 20 random images of ten classes."""
    generator = np.random.default_rng(0)

    class Official:
        classes = CLASSES

        def __init__(self, root, train):
            n = 200 if train else 20
            self.data = generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
            self.targets = [i % 10 for i in range(n)]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Official)
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Official)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_every_step_shows_the_same_image(official, tmp_path, name):
    frames = data.load(name, tmp_path, 3)
    assert frames.frames.shape == (220, 3, 3, 32, 32)
    (batch,) = batches(frames, torch.tensor([0, 219]), 2)
    assert batch.frames.shape == (3, 2, 3, 32, 32)
    assert torch.equal(batch.frames[0], batch.frames[2])
    assert steps_are_equal(frames.frames)
    assert frames.classes == tuple(CLASSES)
    assert (frames.names[0], frames.names[219]) == (
        "airplane/train_00000.png",
        "truck/test_00019.png",
    )


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_test_part_of_five_splits_is_the_official_one(official, tmp_path, name):
    assert data.prepare(name, tmp_path) == tmp_path / f"{name}.json"
    splits = [read_split(tmp_path / f"{name}{number}.json") for number in SPLITS]
    validated = [file for split in splits for file in split.validation]
    assert len(set(validated)) == len(validated) == 5 * 20
    names = data.load(name, tmp_path, 1).names
    for split in splits:
        assert len(split.test) == 20
        assert all("/test_" in file for file in split.test)
        assert (len(split.train), len(split.validation)) == (180, 20)
        labels = [file.partition("/")[0] for file in split.validation]
        assert sorted(labels) == sorted(CLASSES * 2)
        split.indices(names)


def test_real_images_keep_their_colours_labels_and_places(real_data):
    found = data.load("cifar10_subset", real_data, 2)
    assert found.frames.shape == (17_000, 2, 3, 32, 32)
    assert torch.equal(found.labels[:14_000].bincount(), torch.full((10,), 1400))
    with np.load(real_data / "cifar10_subset.npz") as arrays:
        pixels, index = arrays["test_images"], arrays["test_index"]
        labels = arrays["test_labels"].astype(int)
    for place in (0, 1234, 2999):
        assert np.array_equal(found.frames[14_000 + place, 1], pixels[place])
        name = f"{CLASSES[labels[place]]}/test_{index[place]:05d}.png"
        assert found.names[14_000 + place] == name
    # The first images of the official files, as anybody can look them up.
    assert found.names[:3] == (
        "frog/train_00000.png",
        "truck/train_00001.png",
        "truck/train_00002.png",
    )


@pytest.fixture
def subset(tmp_path):
    """A file like the real one, of 20 and 4 images a class that show their class."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, each in (("train", 20), ("test", 4)):
        labels = np.arange(10 * each) % 10
        images = rng.integers(0, 60, (len(labels), 3, 32, 32), dtype=np.uint8)
        images[np.arange(len(labels)), labels % 3, 3 * labels] += 190
        arrays[f"{part}_images"] = images
        arrays[f"{part}_labels"] = labels.astype(np.uint8)
        arrays[f"{part}_index"] = np.arange(len(labels), dtype=np.int32) * 3
    np.savez(tmp_path / "cifar10_subset.npz", **arrays)
    return tmp_path


def test_a_network_learns_from_images_that_stand_still(subset):
    split = data.prepare("cifar10_subset", subset)
    settings = {
        "data.name": "cifar10_subset",
        "data.root": subset,
        "data.split": split,
        "data.time_steps": 2,
        "output": subset / "runs",
        "model.kwargs.channels": "[8, A, 16, A]",
        "neuron.kwargs.v_threshold": 0.5,
        "optimization.epochs": 6,
        "optimization.batch_size": 20,
        "optimization.lr": 0.02,
        "device.accelerator": "cpu",
    }
    words = [str(w) for k, v in settings.items() for w in (f"--{k}", v)]
    folder = train(read(words), Reporter.silent())
    assert folder.read_predictions()["logits_last"].shape == (40, 2, 10)
    assert folder.read_result()["test_accuracy"]["last"] > 0.5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train_labels", np.full(200, 10, np.uint8), r"labels in 0\.\.9, got 10"),
        ("test_images", np.zeros((40, 32, 32, 3), np.uint8), r"got uint8 \[40, 32, 32"),
        ("test_index", np.zeros(39, np.int32), r"got uint8 .* and \[39\]"),
        ("train_index", None, "train_index"),
    ],
)
def test_a_damaged_subset_is_named(subset, key, value, message):
    path = subset / "cifar10_subset.npz"
    with np.load(path) as arrays:
        content = dict(arrays)
    del content[key]
    np.savez(path, **content, **({} if value is None else {key: value}))
    with pytest.raises(data.DamagedDataError, match=rf"cifar10_subset\.npz.*{message}"):
        data.load("cifar10_subset", subset, 2)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_images_are_explained_with_a_command(tmp_path, name, capsys):
    with pytest.raises(FileNotFoundError, match=rf"{name.upper()}\(.*download=True"):
        data.load(name, tmp_path, 4)
    assert any("download=True" in line for line in data.status(name, tmp_path))


def test_a_damaged_batch_is_not_called_missing(tmp_path):
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.parent.mkdir()
    path.write_bytes(b"half")
    with pytest.raises(data.DamagedDataError, match=r"data_batch_3 is damaged.*MD5"):
        data.load("cifar10", tmp_path, 4)
    (line,) = data.check("cifar10", tmp_path)
    assert "data_batch_3" in line


def test_check_reads_the_splits_of_this_set_and_of_no_other(subset):
    assert any("data prepare" in x for x in data.status("cifar10_subset", subset))
    split = data.prepare("cifar10_subset", subset)
    assert data.status("cifar10_subset", subset)[1:] == [f"{subset}: complete"]
    # Torchvision's folder is often shared by sets whose names begin alike.
    for other in ("cifar10.json", "cifar10_subsets.json", "cifar100.json"):
        (subset / other).write_text("{")
    assert data.check("cifar10_subset", subset) == []
    split.write_text(split.read_text().replace("airplane/train_00000", "x", 1))
    (problem,) = data.check("cifar10_subset", subset)
    assert str(split) in problem


def test_splits_of_sets_that_begin_alike_are_not_looked_at(official, tmp_path):
    data.prepare("cifar10", tmp_path)
    for other in ("cifar100", "cifar10_subset_1", "cifar10_dvs_tet_labels"):
        (tmp_path / f"{other}.json").write_text("{")
    assert data.check("cifar10", tmp_path) == []
    (tmp_path / "cifar10_3.json").write_text("{")
    (problem,) = data.check("cifar10", tmp_path)
    assert "cifar10_3.json is damaged" in problem


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar10_subset"])
def test_status_says_what_the_pictures_are(tmp_path, name):
    line = data.status(name, tmp_path)[0]
    assert "32 x 32" in line
    assert "source: https://" in line


def test_a_missing_subset_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no cifar10_subset\.npz"):
        data.load("cifar10_subset", tmp_path, 4)


def test_a_part_of_the_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Expected no `per_class`.*got 3"):
        data.prepare("cifar10", tmp_path, per_class=3)
