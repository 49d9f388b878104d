"""DVS128 Gesture and SHD through the host's loaders, with their official test parts."""

import hashlib
import tarfile

import numpy as np
import pytest

from benchmarks import data
from benchmarks.data import event_sets
from benchmarks.data.aedat3 import HEADER_END, MAGIC, PACKET, check_aedat3
from benchmarks.data.sets import DVS128_GESTURE, SHD
from benchmarks.data.splits import read_split
from benchmarks.runs.config import CacheConfig

TRIALS = {
    "train": [
        f"user{user:02d}_{light}" for user in range(1, 6) for light in ("led", "lab")
    ],
    "test": ["user24_led", "user25_lab"],
}


def events_of(trial, n=1500):
    rng = np.random.default_rng(int(hashlib.sha256(trial.encode()).hexdigest()[:8], 16))
    t = np.sort(rng.integers(0, 1_100_000, n)) + 2**31 - 500_000
    x, y = rng.integers(0, 128, (2, n))
    return {"t": t, "x": x, "y": y, "p": rng.integers(0, 2, n)}


def aedat3(events, packet=400):
    """Bytes of an AEDAT 3.1 file, its times passing 2**31 on the way."""
    parts = [MAGIC, b"#Source 1: DVS128\r\n", HEADER_END]
    overflow = events["t"] >> 31
    for turn in (0, 1):
        chosen = np.flatnonzero(overflow == turn)
        for begin in range(0, len(chosen), packet):
            some = chosen[begin : begin + packet]
            words = np.empty((len(some), 2), "<u4")
            x, y, p = (events[key][some] for key in "xyp")
            words[:, 0] = x << 17 | y << 2 | p << 1 | 1
            words[:, 1] = events["t"][some] & (2**31 - 1)
            n = len(some)
            parts += [PACKET.pack(1, 1, 8, 4, turn, n, n, n), words.tobytes()]
            # A packet of another kind of events, which the host leaves out.
            parts += [PACKET.pack(0, 1, 8, 4, turn, 1, 1, 1), bytes(8)]
    return b"".join(parts)


@pytest.fixture
def unpacked(tmp_path):
    """The unpacked archive: trials, their labels, and the lists of both parts."""
    folder = tmp_path / "made" / "DvsGesture"
    folder.mkdir(parents=True)
    for part, trials in TRIALS.items():
        lines = "".join(f"{trial}.aedat\n" for trial in trials)
        (folder / f"trials_to_{part}.txt").write_text(lines + "\n")
        for trial in trials:
            events = events_of(trial)
            (folder / f"{trial}.aedat").write_bytes(aedat3(events))
            first = int(events["t"][0])
            rows = [
                (label + 1, first + label * 90_000, first + (label + 1) * 90_000)
                for label in range(11)
            ]
            text = "class,startTime_usec,endTime_usec\n"
            text += "".join(f"{a},{b},{c}\n" for a, b, c in rows)
            (folder / f"{trial}_labels.csv").write_text(text)
    return folder


@pytest.fixture
def gesture(unpacked, tmp_path, monkeypatch):
    """A folder with the packed archive, whose MD5 passes for the official one."""
    root = tmp_path / "gesture"
    archive = root / "download" / "DvsGesture.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(unpacked, "DvsGesture")
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(DVS128_GESTURE.archives, archive.name, digest)
    return root


def test_gesture_is_unpacked_converted_and_split_by_user(gesture):
    data.prepare("dvs128_gesture", gesture, time_steps=3)
    found = data.load("dvs128_gesture", gesture, 3)
    assert found.frames.shape == (12 * 11, 3, 2, 128, 128)
    assert found.classes == tuple(str(label) for label in range(11))
    trial = events_of("user24_led")
    first = trial["t"][0]
    inside = (trial["t"] >= first + 180_000) & (trial["t"] < first + 270_000)
    place = found.names.index("2/user24_led_0.npz")
    assert found.labels[place] == 2
    assert found.frames[place].sum() == inside.sum() > 50
    for name in ("dvs128_gesture", "dvs128_gesture_3"):
        split = read_split(gesture / f"{name}.json")
        users = {
            part: {n.partition("/")[2][:6] for n in getattr(split, part)}
            for part in ("train", "validation", "test")
        }
        assert users["test"] == {"user24", "user25"}
        # By the number alone: split k has the users k + 1, k + 6, ...
        validates = "user04" if name.endswith("_3") else "user01"
        assert users["validation"] == {validates}
        assert users["train"] == {f"user{n:02d}" for n in range(1, 6)} - {validates}
        assert len(split.indices(found.names)["test"]) == 22


@pytest.mark.usefixtures("archives_read_in_threads")
def test_gesture_frames_are_those_of_the_hosts_loader(gesture):
    from spikingjelly.datasets.dvs128_gesture import DVS128Gesture

    data.prepare("dvs128_gesture", gesture, time_steps=3)
    found = data.load("dvs128_gesture", gesture, 3)
    host = DVS128Gesture(
        str(gesture), train=False, data_type="frame", frames_number=3, split_by="number"
    )
    # The host numbers the classes in alphabetical order: 0, 1, 10, 2, ...
    assert host.classes[2] == "10"
    for (path, label), (frames, _) in zip(host.samples, host, strict=True):
        place = found.names.index("/".join(path.split("/")[-2:]))
        assert found.labels[place] == int(host.classes[label])
        assert np.array_equal(found.frames[place], frames)


def test_a_damaged_trial_is_named_and_those_before_it_stay(gesture, unpacked):
    source = gesture / "extract" / "DvsGesture"
    source.parent.mkdir()
    unpacked.rename(source)
    path = source / "user03_led.aedat"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"user03_led\.aedat: it is cut"):
        data.prepare("dvs128_gesture", gesture, time_steps=2)
    partial = gesture / "events_np.partial"
    before = {p: p.stat().st_mtime_ns for p in partial.rglob("*.npz")}
    assert len(before) == 4 * 11
    assert any("user03_led.aedat" in p for p in data.check("dvs128_gesture", gesture))
    path.write_bytes(whole)
    data.prepare("dvs128_gesture", gesture, time_steps=2)
    raw = gesture / "events_np"
    for old, time in before.items():
        assert (raw / old.relative_to(partial)).stat().st_mtime_ns == time
    assert not [p for p in raw.iterdir() if p.name not in ("train", "test")]
    # A synthetic set has fewer recordings than the real one; nothing else is wrong.
    (problem,) = data.check("dvs128_gesture", gesture)
    assert "expected 1464 recordings, got 132" in problem
    for path in (raw / "train").glob("*/user02_lab_*.npz"):
        path.unlink()
    data.prepare("dvs128_gesture", gesture, time_steps=2)
    assert data.check("dvs128_gesture", gesture) == [problem]


def test_every_file_of_a_trial_is_made_whatever_other_trials_are_called(
    gesture, unpacked
):
    source = gesture / "extract" / "DvsGesture"
    source.parent.mkdir()
    unpacked.rename(source)
    # As in the real set, one name begins with another.
    trials = ("user02_lab", "user02_lab_led")
    for end in (".aedat", "_labels.csv"):
        (source / f"user01_led{end}").rename(source / f"{trials[1]}{end}")
    (source / "trials_to_train.txt").write_text("\n".join(f"{t}.aedat" for t in trials))
    (source / "trials_to_test.txt").write_text("")
    data.prepare("dvs128_gesture", gesture, time_steps=2)
    raw = gesture / "events_np" / "train"
    whole = {path: path.stat().st_mtime_ns for path in raw.glob("*/*.npz")}
    assert len(whole) == 2 * 11
    # The whole of one trial, and a single file of the other.
    lost = [*raw.glob("*/user02_lab_?.npz"), raw / "4" / "user02_lab_led_0.npz"]
    assert len(lost) == 12
    for path in lost:
        path.unlink()
    problems = data.check("dvs128_gesture", gesture)
    for path in lost:
        assert any(f"{path} is missing" in problem for problem in problems)
    data.prepare("dvs128_gesture", gesture, time_steps=2)
    assert {*raw.glob("*/*.npz")} == whole.keys()
    for path in whole.keys() - {*lost}:
        assert path.stat().st_mtime_ns == whole[path]
    assert not [path for path in raw.parent.iterdir() if path.name.startswith(".")]


def test_two_recordings_of_one_class_in_a_trial_are_both_missed(gesture, unpacked):
    source = gesture / "extract" / "DvsGesture"
    source.parent.mkdir()
    unpacked.rename(source)
    labels = source / "user02_lab_labels.csv"
    head, *rows = labels.read_text().splitlines()
    rows[7] = "7," + rows[7].partition(",")[2]
    labels.write_text("\n".join([head, *rows]))
    (source / "trials_to_train.txt").write_text("user02_lab.aedat")
    (source / "trials_to_test.txt").write_text("")
    data.prepare("dvs128_gesture", gesture, time_steps=2)
    second = gesture / "events_np" / "train" / "6" / "user02_lab_1.npz"
    second.unlink()
    data.prepare("dvs128_gesture", gesture, time_steps=2)
    assert second.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,start,end\n12,0,9\n", r"classes in 1\.\.11, got 12"),
        ("class,start,end\n", "a row for each recording"),
        ("class,start,end\nx,0,9\n", "'x'"),
    ],
)
def test_a_damaged_list_of_labels_is_named(gesture, unpacked, text, message):
    source = gesture / "extract" / "DvsGesture"
    source.parent.mkdir()
    unpacked.rename(source)
    (source / "user01_led_labels.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"user01_led_labels\.csv: .*{message}"):
        data.prepare("dvs128_gesture", gesture, time_steps=2)
    problems = data.check("dvs128_gesture", gesture)
    assert any("user01_led_labels.csv" in problem for problem in problems)


@pytest.mark.parametrize("missing", ["user02_lab.aedat", "user02_lab_labels.csv"])
def test_a_file_that_a_list_names_is_missed(gesture, unpacked, missing):
    source = gesture / "extract" / "DvsGesture"
    source.parent.mkdir()
    unpacked.rename(source)
    (source / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{missing} is missing"):
        data.prepare("dvs128_gesture", gesture)
    assert any(missing in p for p in data.check("dvs128_gesture", gesture))


def test_a_damaged_archive_is_kept_and_named(gesture):
    archive = gesture / "download" / "DvsGesture.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"DvsGesture\.tar\.gz: expected MD5"):
        data.prepare("dvs128_gesture", gesture)
    assert archive.exists()
    assert not (gesture / "extract").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: b"#!AER-DAT2.0" + raw[12:], "begin with"),
        (lambda raw: raw[:20], "no end"),
        (lambda raw: raw + raw[-36:-20], "inside a header"),
        (lambda raw: raw[:-4], "cut or odd"),
    ],
    ids=["magic", "header", "packet", "events"],
)
def test_an_aedat3_file_that_is_not_whole_is_named(tmp_path, damage, message):
    raw = aedat3(events_of("x", 50))
    (tmp_path / "a.aedat").write_bytes(raw)
    assert check_aedat3(tmp_path / "a.aedat") >= 50
    (tmp_path / "a.aedat").write_bytes(damage(raw))
    with pytest.raises(ValueError, match=rf"a\.aedat: .*{message}"):
        check_aedat3(tmp_path / "a.aedat")


def write_shd(folder, damage=None):
    h5py = pytest.importorskip("h5py")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", 100), ("test", 20)):
        with h5py.File(folder / f"shd_{part}.h5", "w") as file:
            columns = {
                "times": [np.sort(rng.random(50)) for _ in range(n)],
                "units": [rng.integers(0, 700, 50) for _ in range(n)],
            }
            labels = np.arange(n) % 20
            if damage is not None and part == "test":
                damage(columns, labels)
            for key, kind in (("times", np.float32), ("units", np.uint16)):
                rows = file.create_dataset(
                    f"spikes/{key}", (n,), dtype=h5py.vlen_dtype(kind)
                )
                for row, values in enumerate(columns[key]):
                    rows[row] = values
            file["labels"] = labels


def test_shd_goes_through_the_hosts_loader(tmp_path):
    write_shd(tmp_path / "extract")
    data.prepare("shd", tmp_path, time_steps=5)
    found = data.load("shd", tmp_path, 5)
    assert found.frames.shape == (120, 5, 1, 1, 700)
    assert found.frames.sum() == 120 * 50
    for name in ("shd", "shd_2"):
        split = read_split(tmp_path / f"{name}.json")
        assert all("test_" in name for name in split.test)
        counts = {k: len(v) for k, v in split.indices(found.names).items()}
        assert counts == {"train": 80, "validation": 20, "test": 20}
    (problem,) = data.check("shd", tmp_path)
    assert "expected 10420 recordings, got 120" in problem
    assert data.missing("shd", tmp_path)
    with pytest.raises(ValueError, match="Expected no settings of frames with shd"):
        data.load("shd", tmp_path, 5, CacheConfig())


def backwards(columns, labels):
    columns["times"][7] = columns["times"][7][::-1]


def outside(columns, labels):
    columns["units"][7][3] = 700


def silent(columns, labels):
    columns["times"][7] = columns["units"][7] = np.zeros(0)


def unknown(columns, labels):
    labels[7] = 20


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (backwards, "recording 7 has times that run back"),
        (outside, "recording 7 has channel 700"),
        (silent, "recording 7 has 0 times"),
        (unknown, "recording 7 has label 20"),
    ],
)
def test_a_damaged_shd_file_is_named_before_anything_is_made(tmp_path, damage, message):
    write_shd(tmp_path / "extract", damage)
    with pytest.raises(ValueError, match=rf"shd_test\.h5: {message}"):
        data.prepare("shd", tmp_path)
    assert not (tmp_path / "events_h5").exists()
    assert any(message in problem for problem in data.check("shd", tmp_path))
    write_shd(tmp_path / "extract")
    data.prepare("shd", tmp_path, time_steps=2)
    assert len(data.load("shd", tmp_path, 2)) == 120


def test_a_missing_shd_file_is_named(tmp_path):
    write_shd(tmp_path / "extract")
    (tmp_path / "extract" / "shd_train.h5").unlink()
    with pytest.raises(ValueError, match=r"shd_train\.h5"):
        data.prepare("shd", tmp_path)


@pytest.mark.usefixtures("archives_read_in_threads")
def test_shd_frames_are_those_of_the_hosts_loader(tmp_path):
    write_shd(tmp_path / "extract")
    data.prepare("shd", tmp_path, time_steps=3)
    found = data.load("shd", tmp_path, 3)
    for part in ("train", "test"):
        host = event_sets.host_class("shd")(
            str(tmp_path),
            train=part == "train",
            data_type="frame",
            frames_number=3,
            split_by="number",
        )
        for (path, _), (frames, _) in zip(host.samples, host, strict=True):
            *_, label, file = path.split("/")
            place = found.names.index(f"{label}/{part}_{file.removesuffix('.npz')}")
            assert np.array_equal(found.frames[place, :, 0, 0], frames)
            assert found.labels[place] == int(label)


def test_stale_and_damaged_shd_frames_are_seen(tmp_path):
    write_shd(tmp_path / "extract")
    path = data.prepare("shd", tmp_path, time_steps=3)
    before = path.stat().st_mtime_ns
    first = data.load("shd", tmp_path, 3)
    assert path.stat().st_mtime_ns == before

    def shorter(columns, labels):
        for key in columns:
            columns[key] = [row[:30] for row in columns[key]]

    write_shd(tmp_path / "extract", shorter)
    problems = data.check("shd", tmp_path)
    assert f"{path}: made of other events than lie here now" in problems
    # The test part alone was written anew with less.
    assert data.load("shd", tmp_path, 3).frames.sum() == 100 * 50 + 20 * 30
    path.write_bytes(path.read_bytes()[:-1])
    assert any(f"{path} is damaged" in line for line in data.check("shd", tmp_path))
    write_shd(tmp_path / "extract")
    assert data.load("shd", tmp_path, 3).checksum == first.checksum


def test_a_damaged_shd_row_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    write_shd(tmp_path / "extract")
    data.prepare("shd", tmp_path, time_steps=3)
    with h5py.File(tmp_path / "extract" / "shd_test.h5", "r+") as file:
        file["spikes/units"][4] = np.array([3, 700], np.uint16)
    with pytest.raises(data.DamagedDataError, match=r"shd_test\.h5.*recording 4"):
        data.load("shd", tmp_path, 3)
    (tmp_path / "extract" / "shd_test.h5").write_bytes(b"cut")
    with pytest.raises(data.DamagedDataError, match=r"Cannot read .*shd_test\.h5"):
        data.load("shd", tmp_path, 3)


def test_every_set_has_its_loader_of_the_host():
    for name, kind in (
        ("cifar10_dvs", "CIFAR10DVS"),
        ("n_caltech101", "NCaltech101"),
        ("dvs128_gesture", "DVS128Gesture"),
        ("shd", "SpikingHeidelbergDigits"),
    ):
        assert event_sets.host_class(name).__name__ == kind
    assert SHD.licence == "CC BY 4.0"
