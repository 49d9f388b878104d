"""Sets that the user brings: prepared, resumed, mended and checked, nothing lost."""

import shutil
import threading

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
from benchmarks.data.event_files import save_npz
from benchmarks.data.sets import CIFAR10_DVS, N_CALTECH101, SETS, new_splits
from benchmarks.data.splits import read_split
from benchmarks.runs.locks import locked


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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x", np.full(400, 3.5), "`x` of integers, got float64"),
        ("y", np.array([3]), "arrays of one length"),
        ("t", np.arange(400)[::-1], "`t` never to fall, got 398 after 399"),
        ("x", np.full(400, 128), r"`x` in 0\.\.127, got 128"),
    ],
)
def test_events_that_aedat_cannot_hold_are_refused_by_name(
    tmp_path, key, value, message
):
    with pytest.raises(ValueError, match=rf"a\.aedat: Expected .*{message}"):
        write_aedat2(tmp_path / "a.aedat", events() | {key: value})
    assert not list(tmp_path.iterdir())


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


@pytest.mark.usefixtures("archives_read_in_threads")
def test_frames_are_those_of_the_hosts_loader(root):
    from spikingjelly.datasets.cifar10_dvs import CIFAR10DVS

    data.prepare("cifar10_dvs", root, time_steps=4)
    found = data.load("cifar10_dvs", root, 4)
    host = CIFAR10DVS(str(root), "frame", frames_number=4, split_by="number")
    # Labels are those of the whole set; the host counts the folders that are there.
    assert [found.classes[label] for label in found.labels] == [
        host.classes[target] for target in host.targets
    ]
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
    (root / "frames_number_4_split_by_number" / "test" / "cat").mkdir(parents=True)
    # As they are also when nothing mends them first.
    assert data.load("cifar10_dvs", root).classes == CIFAR10_DVS.classes
    data.prepare("cifar10_dvs", root)
    assert data.load("cifar10_dvs", root).classes == CIFAR10_DVS.classes
    assert not list(root.glob("frames_*/test"))
    aside = root / "set_aside" / "frames_number_4_split_by_number_test.0"
    assert (aside / "cat").is_dir()
    assert (root / "set_aside" / "train.0" / "cat" / "own.npz").read_bytes() == b"mine"
    assert (root / "set_aside" / "frames_number_9_split_by_number.0").is_dir()
    assert not list(root.glob("*.building"))
    assert not (raw / "train").exists()
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


def write_caltech(root, labels, numbers):
    for label in labels:
        for number in numbers:
            path = root / "extract" / "Caltech101" / label / f"image_{number:04d}.bin"
            write_events(path, events(number, size=(180, 240)))


def test_ncaltech_files_become_frames_with_the_labels_of_the_whole_set(tmp_path):
    write_caltech(tmp_path, ("Faces_easy", "ant"), range(1, 9))
    data.prepare("n_caltech101", tmp_path, time_steps=2)
    found = data.load("n_caltech101", tmp_path, 2)
    assert found.frames.shape == (16, 2, 2, 180, 240)
    assert found.frames.sum(dtype=torch.int64) == 16 * 400
    assert found.classes == N_CALTECH101.classes
    assert found.classes[found.labels[0]] == "Faces_easy"
    split = read_split("n_caltech101").restricted(found.names)
    assert sum(map(len, split.indices(found.names).values())) == 16


def test_folders_that_are_no_classes_are_no_ncaltech(tmp_path):
    write_caltech(tmp_path, ("blue", "green"), range(1, 3))
    with pytest.raises(FileNotFoundError, match=r"No files of N-Caltech101.*BACKGR"):
        data.prepare("n_caltech101", tmp_path)
    problems = data.check("n_caltech101", tmp_path)
    assert any("blue: no class of N-Caltech101" in line for line in problems)
    assert any("ant: this class folder is missing" in line for line in problems)


def test_a_part_of_a_set_is_not_called_ready(root, capsys):
    words = ["--root", str(root), "--time-steps", "2", "--size", "8"]
    assert main(["data", "prepare", "cifar10_dvs", *words]) == 2
    printed = capsys.readouterr()
    assert "cat: 998 of 1000 recordings are missing" in printed.out
    assert " ready in" not in printed.out
    assert "not complete" in printed.err
    assert main(["data", "status", "cifar10_dvs", "--root", str(root)]) == 0
    assert "truck: 1000 of 1000 recordings are missing" in capsys.readouterr().out


def test_what_lacks_beside_prepared_events_is_converted(root):
    data.prepare("cifar10_dvs", root, time_steps=2)
    raw = root / "events_np" / "cat"
    before = (raw / "cifar10_cat_1.npz").stat().st_mtime_ns
    (raw / "cifar10_cat_0.npz").unlink()
    path = root / "extract" / "dog" / "cifar10_dog_7.aedat"
    write_aedat2(path, events(7))
    data.prepare("cifar10_dvs", root, time_steps=2)
    assert (raw / "cifar10_cat_0.npz").exists()
    assert (raw / "cifar10_cat_1.npz").stat().st_mtime_ns == before
    assert "dog/cifar10_dog_7.aedat" in data.load("cifar10_dvs", root, 2).names
    assert not (root / "events_np.partial").exists()


def test_check_looks_at_events_frames_and_splits_though_originals_are_there(root):
    data.prepare("cifar10_dvs", root, time_steps=2)
    raw = root / "events_np" / "cat" / "cifar10_cat_0.npz"
    raw.write_bytes(b"cut")
    (root / "cifar10_dvs_own.json").write_text("{")
    (frames,) = root.glob("*.frames")
    problems = data.check("cifar10_dvs", root)
    assert any(str(raw) in line for line in problems)
    assert any("cifar10_dvs_own.json is damaged" in line for line in problems)
    assert f"{frames}: made of other events than lie here now" in problems
    frames.write_bytes(frames.read_bytes()[:-1])
    problems = data.check("cifar10_dvs", root)
    assert any(f"{frames} is damaged" in line for line in problems)


def test_check_and_status_tell_frames_of_the_steps_asked_for(root):
    frames = data.prepare("cifar10_dvs", root, time_steps=2, size=(8, 8))
    data.prepare("cifar10_dvs", root, time_steps=20, size=(8, 8))
    frames.write_bytes(frames.read_bytes()[:-1])
    damaged = f"{frames} is damaged"
    for steps, seen in ((None, True), (2, True), (20, False)):
        problems = data.check("cifar10_dvs", root, time_steps=steps)
        assert any(damaged in line for line in problems) == seen
    problems = data.check("cifar10_dvs", root, time_steps=3)
    assert any("frames of 3 time steps are missing" in line for line in problems)
    assert "no frames of 3 time steps" in data.status("cifar10_dvs", root, 3)
    listed = [x for x in data.status("cifar10_dvs", root, 2) if x.endswith("frames")]
    assert [line.partition(":")[0] for line in listed] == [frames.name]


@pytest.mark.parametrize("name", data.available())
def test_every_set_can_be_checked_and_asked_for_steps_where_nothing_is(name, tmp_path):
    assert data.check(name, tmp_path, time_steps=3)
    assert data.status(name, tmp_path, 3)
    with pytest.raises((FileNotFoundError, ValueError)):
        data.load(name, tmp_path, 3)


def test_what_a_killed_process_had_begun_is_removed_and_files_of_others_stay(root):
    raw, partial = root / "events_np", root / "events_np.partial"
    (partial / "cat").mkdir(parents=True)
    leftovers = [
        partial / "cat" / ".cifar10_cat_0.npz.123.partial",
        root / ".cifar10_dvs_T9_number_128x128.frames.99.partial",
    ]
    for path in leftovers:
        path.write_bytes(b"half")
    (root / "mine.partial").write_bytes(b"mine")
    assert any("events_np.partial" in x for x in data.status("cifar10_dvs", root))
    data.prepare("cifar10_dvs", root, time_steps=2)
    assert not [path for path in root.rglob("*.partial") if path.name != "mine.partial"]
    assert (root / "mine.partial").read_bytes() == b"mine"
    assert sorted(path.name for path in raw.iterdir()) == ["airplane", "cat"]


def test_a_second_preparation_waits_for_the_first(root):
    stages = []
    done = threading.Event()
    with locked(root / ".cifar10_dvs.lock"):
        thread = threading.Thread(
            target=lambda: data.prepare(
                "cifar10_dvs",
                root,
                time_steps=2,
                progress=lambda stage, *_: (stages.append(stage), done.set()),
            )
        )
        thread.start()
        assert done.wait(20)
        assert stages == ["wait for another process"]
        assert not (root / "events_np").exists()
    thread.join(60)
    assert (root / "events_np").exists()


def test_a_damaged_event_file_is_named_and_nothing_is_written_wrapped(root, tmp_path):
    data.prepare("cifar10_dvs", root, time_steps=2)
    path = root / "events_np" / "cat" / "cifar10_cat_0.npz"
    path.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(data.DamagedDataError, match=r"cifar10_cat_0\.npz is damaged"):
        data.prepare("cifar10_dvs", root, time_steps=2)
    wide = events(n=3) | {"x": np.array([0, 256, 1])}
    with pytest.raises(ValueError, match=r"wide\.npz: expected `x` in 0\.\.255"):
        save_npz(tmp_path / "wide.npz", wide)


def test_status_names_the_archives_that_are_missing(tmp_path):
    folder = tmp_path / "download"
    folder.mkdir()
    for name in CIFAR10_DVS.archives:
        if name != "dog.zip":
            (folder / name).touch()
    (line,) = [x for x in data.status("cifar10_dvs", tmp_path) if "Get " in x]
    assert "Get dog.zip from" in line


def test_the_real_ncaltech_recording_fills_its_frames(real_data, tmp_path):
    shutil.copytree(real_data / "ncaltech101", tmp_path / "extract")
    data.prepare("n_caltech101", tmp_path)
    assert data.load("n_caltech101", tmp_path).frames.sum(dtype=torch.int64) == 67_445


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("one", [CIFAR10_DVS, N_CALTECH101], ids=lambda one: one.name)
def test_no_recording_stands_on_two_sides(one, number):
    name = one.name + (f"_{number}" if number else "")
    split = read_split(name)
    assert split == new_splits(one)[name]
    assert split.classes == one.classes
    sides = [set(split.train), set(split.validation), set(split.test)]
    assert sum(map(len, sides)) == len(set.union(*sides)) == one.recordings
    for label, count in one.counts.items():
        for side, share in zip(sides, (0.6, 0.15, 0.25), strict=True):
            found = sum(file.startswith(f"{label}/") for file in side)
            assert abs(found - share * count) <= 1


def test_the_counts_of_ncaltech_add_up():
    assert len(N_CALTECH101.counts) == 101
    assert sum(N_CALTECH101.counts.values()) == N_CALTECH101.recordings == 8709
    assert N_CALTECH101.files[0] == "BACKGROUND_Google/image_0001.bin"
    assert "airplanes/image_0800.bin" in N_CALTECH101.files
    index = read_split("n_caltech101_index90")
    assert index == new_splits(N_CALTECH101)["n_caltech101_index90"]
    assert "airplanes/image_0080.bin" in index.test
    assert "airplanes/image_0081.bin" in index.train


def test_five_splits_differ_and_the_papers_alternative_is_by_index():
    names = ("cifar10_dvs", *(f"cifar10_dvs_{number}" for number in range(1, 5)))
    assert len({read_split(name).checksum for name in names}) == 5
    index = read_split("cifar10_dvs_index90")
    assert len(index.test) == 1000
    assert "cat/cifar10_cat_99.aedat" in index.test
    assert "cat/cifar10_cat_100.aedat" in index.train
