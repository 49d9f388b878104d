"""Sets that the user brings: prepared, resumed, mended and checked, nothing lost."""

import shutil

import numpy as np
import pytest
import torch

from benchmarks import data
from benchmarks.__main__ import main
from benchmarks.data.aedat2 import (
    decode_aedat2,
    encode_aedat2,
    read_aedat2,
    write_aedat2,
)
from benchmarks.data.atis import write_events
from benchmarks.data.sets import CIFAR10_DVS, SETS, new_splits
from benchmarks.data.splits import read_split


def events(seed=0, n=400, size=(128, 128)):
    rng = np.random.default_rng(seed)
    return {
        "t": np.sort(rng.integers(0, 10**6, n)),
        "x": rng.integers(0, size[1], n),
        "y": rng.integers(0, size[0], n),
        "p": rng.integers(0, 2, n),
    }


@pytest.fixture
def root(tmp_path):
    for label in ("airplane", "cat"):
        for number in range(2):
            path = tmp_path / "extract" / label / f"cifar10_{label}_{number}.aedat"
            write_aedat2(path, events(number))
    return tmp_path


def test_aedat_events_survive_a_round_trip():
    found = decode_aedat2(encode_aedat2(events()))
    for key, column in events().items():
        assert np.array_equal(found[key], column)


def test_the_hosts_reader_gives_the_same_events(root):
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS

    raw = root / "host"
    raw.mkdir()
    CIFAR10DVS.create_raw_from_extracted(root / "extract", raw)
    with np.load(raw / "cat" / "cifar10_cat_1.npz") as arrays:
        for key, column in events(1).items():
            assert np.array_equal(arrays[key], column)


@pytest.mark.parametrize("session", ["session1", "session2"])
def test_real_recordings_are_read_to_the_last_event(real_data, session):
    for path in sorted((real_data / "dvs128_objects" / session).iterdir()):
        raw = path.read_bytes()
        header = raw.rindex(b"#End Of ASCII Header\r\n") + 22
        found = read_aedat2(path)
        assert len(found["t"]) == (len(raw) - header) // 8 > 100_000
        assert encode_aedat2(found).endswith(raw[header:])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[:-3], "eight bytes an event"),
        (lambda raw: b"#!AER-DAT3.1" + raw[12:], "begins with #!AER-DAT2.0"),
        (lambda raw: raw[:-8] + b"\xff" * 8, "128 x 128 pixels"),
        (lambda raw: raw[:-8] + raw[-8:-4] + b"\0" * 4, "never run back"),
        (lambda raw: raw[: raw.index(b"\n", 14) + 1], "empty recording"),
    ],
    ids=["odd", "header", "outside", "back", "empty"],
)
def test_a_damaged_file_is_named_and_what_was_prepared_stays(root, damage, message):
    path = root / "extract" / "cat" / "cifar10_cat_1.aedat"
    write_aedat2(path, events(n=40) | {"x": np.full(40, 3)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"cifar10_cat_1\.aedat.*{message}"):
        data.prepare("cifar10_dvs", root)
    partial = root / "events_np.partial"
    before = {path: path.stat().st_mtime_ns for path in partial.rglob("*.npz")}
    assert len(before) == 3
    write_aedat2(path, events(1))
    data.prepare("cifar10_dvs", root)
    for old, time in before.items():
        new = root / "events_np" / old.relative_to(partial)
        assert new.stat().st_mtime_ns == time


def test_frames_are_those_of_the_hosts_loader(root):
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS

    data.prepare("cifar10_dvs", root, time_steps=4)
    found = data.load("cifar10_dvs", root, 4)
    host = CIFAR10DVS(str(root), "frame", frames_number=4, split_by="number")
    assert found.labels.tolist() == host.targets
    for frames, (expected, _) in zip(found.frames, host, strict=True):
        assert np.array_equal(frames, expected)
    host_events = CIFAR10DVS(str(root), "event")[0][0]
    assert torch.from_numpy(host_events["t"]).dtype == torch.int64


def test_what_the_host_left_is_mended_and_nothing_is_deleted(root):
    data.prepare("cifar10_dvs", root)
    raw = root / "events_np"
    with np.load(raw / "cat" / "cifar10_cat_1.npz") as arrays:
        columns = dict(arrays)
    swapped = columns | {"t": columns["t"].astype(">u4")}
    np.savez(raw / "cat" / "cifar10_cat_1.npz", **swapped)
    (raw / "train" / "cat").mkdir(parents=True)
    (raw / "train" / "cat" / "own.npz").write_bytes(b"mine")
    (root / "frames_number_9_split_by_number").mkdir()
    (root / "frames_number_9_split_by_number.building").touch()
    data.prepare("cifar10_dvs", root)
    assert data.load("cifar10_dvs", root).classes == ("airplane", "cat")
    assert (root / "set_aside" / "train.0" / "cat" / "own.npz").read_bytes() == b"mine"
    assert (root / "set_aside" / "frames_number_9_split_by_number.0").is_dir()
    assert not list(root.glob("*.building"))
    with np.load(raw / "cat" / "cifar10_cat_1.npz") as arrays:
        assert arrays["t"].dtype.isnative
        assert np.array_equal(arrays["t"], columns["t"])


def test_check_names_every_fault_and_missing_class(root, capsys):
    path = root / "extract" / "cat" / "cifar10_cat_0.aedat"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["data", "check", "cifar10_dvs", "--root", str(root)]) == 2
    printed = capsys.readouterr().out
    assert "truck: this class folder is missing" in printed
    assert "cat: expected 1000 recordings, got 2" in printed
    assert "cifar10_cat_0.aedat" in printed


def test_status_says_what_to_bring(tmp_path, capsys):
    for name in SETS:
        assert main(["data", "status", name, "--root", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert f"data prepare {name} --root" in printed
        with pytest.raises(FileNotFoundError, match="missing"):
            data.prepare(name, tmp_path)


def test_ncaltech_files_become_frames_and_splits(tmp_path):
    for label in ("Faces", "ant"):
        for number in range(1, 9):
            path = tmp_path / "extract" / "Caltech101" / label
            write_events(
                path / f"image_{number:04d}.bin", events(number, size=(180, 240))
            )
    data.prepare("n_caltech101", tmp_path, time_steps=2)
    found = data.load("n_caltech101", tmp_path, 2)
    assert found.frames.shape == (16, 2, 2, 180, 240)
    assert found.frames.sum(dtype=torch.int64) == 16 * 400
    for name in ("n_caltech101", "n_caltech101_4"):
        split = read_split(tmp_path / f"{name}.json")
        assert {k: len(v) for k, v in split.indices(found.names).items()} == {
            "train": 10,
            "validation": 2,
            "test": 4,
        }


def test_the_real_ncaltech_recording_fills_its_frames(real_data, tmp_path):
    shutil.copytree(real_data / "ncaltech101", tmp_path / "extract")
    data.prepare("n_caltech101", tmp_path)
    assert data.load("n_caltech101", tmp_path).frames.sum(dtype=torch.int64) == 67_445


@pytest.mark.parametrize("number", range(5))
def test_no_recording_stands_on_two_sides(number):
    name = "cifar10_dvs" + (f"_{number}" if number else "")
    split = read_split(name)
    assert split == new_splits(CIFAR10_DVS)[name]
    sides = [set(split.train), set(split.validation), set(split.test)]
    assert [len(side) for side in sides] == [6000, 1500, 2500]
    assert len(set.union(*sides)) == 10_000
    for label in split.classes:
        assert sum(file.startswith(f"{label}/") for file in split.test) == 250


def test_five_splits_differ_and_the_papers_alternative_is_by_index():
    names = ("cifar10_dvs", *(f"cifar10_dvs_{number}" for number in range(1, 5)))
    assert len({read_split(name).checksum for name in names}) == 5
    index = read_split("cifar10_dvs_index90")
    assert len(index.test) == 1000
    assert "cat/cifar10_cat_99.aedat" in index.test
    assert "cat/cifar10_cat_100.aedat" in index.train
